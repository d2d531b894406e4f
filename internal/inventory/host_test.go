package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Host
	}{
		{"db2", Host{Name: "db2", Addr: "db2", Port: 22}},
		{"db2:2222", Host{Name: "db2-2222", Addr: "db2", Port: 2222}},
		{"db2:22", Host{Name: "db2", Addr: "db2", Port: 22}},
		{"root@192.0.2.7", Host{Name: "192.0.2.7", Addr: "192.0.2.7", Port: 22, User: "root"}},
		{"web=root@192.0.2.7:2200", Host{Name: "web", Addr: "192.0.2.7", Port: 2200, User: "root"}},
		{"me@corp@db", Host{Name: "db", Addr: "db", Port: 22, User: "me@corp"}},
		{"a%41@db", Host{Name: "db", Addr: "db", Port: 22, User: "a%41"}},
		{"2001:db8::7", Host{Name: "2001-db8--7", Addr: "2001:db8::7", Port: 22}},
		{"[2001:DB8:0::7]", Host{Name: "2001-db8--7", Addr: "2001:db8::7", Port: 22}},
		{"[::1]:2222", Host{Name: "0--1-2222", Addr: "::1", Port: 2222}},
		{"u@[fe80::1%eth0]", Host{Name: "fe80--1-eth0", Addr: "fe80::1%eth0", Port: 22, User: "u"}},
		{"ssh://db2", Host{Name: "db2", Addr: "db2", Port: 22}},
		{"ssh://u:p%40s%2Fs@db2:2222/", Host{Name: "db2-2222", Addr: "db2", Port: 2222, User: "u", Password: "p@s/s"}},
		{"x=ssh://u%20@[fe80::1%25eth0]:7", Host{}},
		{"ssh://dom%5Cu@[fe80::1%25eth0]:7", Host{Name: "fe80--1-eth0-7", Addr: "fe80::1%eth0", Port: 7, User: `dom\u`}},
		{"x=ssh://u:p=@db", Host{Name: "x", Addr: "db", Port: 22, User: "u", Password: "p="}},
		{"ssh://u:p=@db", Host{Name: "db", Addr: "db", Port: 22, User: "u", Password: "p="}},
	} {
		got, err := ParseHost(c.in)
		if c.want == (Host{}) {
			if err == nil {
				t.Errorf("%q: no error, got %#v", c.in, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q:\n got %#v, %v\nwant %#v", c.in, got, err, c.want)
		}
	}
}

func TestParseHostRefuses(t *testing.T) {
	for in, say := range map[string]string{
		"":                           "address is empty",
		"@db":                        "user name is empty",
		"db:":                        "port is missing",
		"ssh://db:":                  "port is missing",
		"db:0":                       "port is not a number",
		"db:65536":                   "port is not a number",
		"db:ssh":                     "port is not a number",
		"db:+22":                     "port is not a number",
		"-oProxyCommand=x":           "starts with",
		"u@-oProxyCommand":           "starts with",
		"d b":                        "characters other than",
		"db/x":                       "characters other than",
		"http://db":                  "only scheme",
		"ssh://db/path":              "no path",
		"ssh://db?x":                 "no query",
		"ssh://db#":                  "no query",
		"ssh://":                     "address is empty",
		"[::1":                       "not an IPv6",
		"[1.2.3.4]":                  "not an IPv6",
		"ssh://[db]":                 "",
		"[::1]x":                     "only :port",
		"1:2:3":                      "not a valid IPv6",
		"a b=db":                     "host name",
		"=db":                        "host name is empty",
		".x=db":                      "starts with",
		strings.Repeat("a", 64):      "choose one with name=",
		"u\n@db":                     "white space",
		"[fe80::1%a/b]":              "zone",
		"u:hunter2@db":               "ssh://user:password@host only",
		"ssh://u:hunter2@db:x":       "not a valid URL",
		"ssh://u:hunter2":            "not a valid URL",
		"ssh://u:hunter2/x@db":       "not a valid URL",
		"ssh://u:%zzhunter2@db":      "not a valid URL",
		"x=ssh://u:hunter2@db/x":     "no path",
		"ssh://u:hunter2@d b":        "not a valid URL",
		"ssh://u:p://hunter2@db:x":   "",
		"u:hunter2://x@db":           "",
		"ssh://u:12/hunter2@db":      "no path",
		"-x=ssh://u:hunter2@db":      "starts with",
		"ssh://u%0a:hunter2@db":      "white space",
		"ssh://u:hunter2@-db":        "starts with",
		"ssh://:hunter2@db":          "user name is empty",
		"http://u:hunter2@db":        "only scheme",
		"ssh://u:hun@hunter2@db:bad": "",
	} {
		h, err := ParseHost(in)
		if err == nil {
			t.Errorf("%q: no error, got %v", in, h)
			continue
		}
		if !strings.Contains(err.Error(), say) {
			t.Errorf("%q: error %q does not say %q", in, err, say)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error shows the password: %q", err)
		}
	}
}

func TestAddress(t *testing.T) {
	if got := (Host{Addr: "::1", Port: 22}).Address(); got != "[::1]:22" {
		t.Error(got)
	}
}

func TestUnique(t *testing.T) {
	a, b, c := Host{Name: "a", Addr: "x", Port: 1}, Host{Name: "b", Addr: "y", Port: 2}, Host{Name: "a", Addr: "z", Port: 3}
	if err := Unique([]Host{a, b}); err != nil {
		t.Error(err)
	}
	err := Unique([]Host{a, b, c})
	if err == nil || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "x:1") || !strings.Contains(err.Error(), "z:3") {
		t.Error(err)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	h := Host{Name: "a", Addr: "x", Port: 22, User: "u", Password: "hunter2"}
	j, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "p", h.Password, "h", h)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", h.Password, "h", h)
	for _, s := range []string{string(j), log.String(), h.String(), fmt.Sprint(h), fmt.Sprintf("%v %+v %#v %s %q", h, &h, h, h.Password, h.Password)} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("shows the password: %s", s)
		}
	}
	if h.Password.Reveal() != "hunter2" {
		t.Error("Reveal")
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"db", "x=u@db:22", "ssh://u:p@h:1", "ssh://u%20@[::1%25e]:1/", "[::1]:2", "u@fe80::1%x", "::ffff:1.2.3.4", "a=b=c@d", "ssh://u@h?x#y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHost(s)
		if err != nil {
			if h != (Host{}) {
				t.Fatalf("%q: a host beside an error", s)
			}
			return
		}
		if err := ValidName(h.Name); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		again, err := ParseHost(h.String())
		if err != nil {
			t.Fatalf("%q printed as %q: %v", s, h.String(), err)
		}
		h.Password = ""
		if again != h {
			t.Fatalf("%q printed as %q: got %#v, want %#v", s, h.String(), again, h)
		}
	})
}

func FuzzPasswordStaysOutOfErrors(f *testing.F) {
	f.Add("u:", "@h:x")
	f.Add("u:a/", "@h")
	f.Add("u:://", "%@@h/x")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2"
		if !strings.Contains(before, ":") || !strings.Contains(after, "@") || strings.HasPrefix(before, "=") {
			return // not in the place of a password
		}
		if _, err := ParseHost("ssh://" + before + secret + after); err != nil && strings.Contains(err.Error(), secret) {
			t.Fatalf("error shows the password: %v", err)
		}
	})
}
