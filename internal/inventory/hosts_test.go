package inventory

import (
	"strings"
	"testing"
)

func TestParseHosts(t *testing.T) {
	for text, want := range map[string]string{
		"web1":                           "web1",
		"root@web[1-2]:2222":             "web1-2222=root@web1:2222 web2-2222=root@web2:2222",
		"web[1-4]!web3":                  "web1 web2 web4",
		"root@web[1-4]:22!web[2-3]":      "root@web1 root@web4",
		"web[1-4]&web[3-9]":              "web3 web4",
		"a,b":                            "a b",
		"a@h1:22,b@h2:23":                "a@h1 h2-23=b@h2:23",
		"web[1-2]=root@10.0.0.[8-9]:23":  "web1=root@10.0.0.8:23 web2=root@10.0.0.9:23",
		"[::1]:2222":                     "0--1-2222=[::1]:2222",
		"::1":                            "0--1=[::1]",
		"a=[::1],b=u@[fe80::1%eth0]:7,c": "a=[::1] b=u@[fe80::1%eth0]:7 c",
		"[a,b][1-2]":                     "a1 a2 b1 b2",
		"web1,web1":                      "web1",
		"ssh://u:p%2C!@[::1]:7":          "0--1-7=u@[::1]:7",
		"me@corp@db":                     "ssh://me%40corp@db",
	} {
		hosts, err := ParseHosts(text)
		var got []string
		for _, h := range hosts {
			text := h.String()
			if !strings.Contains(text, "=") && h.Name != h.Addr {
				text = h.Name + "=" + text
			}
			got = append(got, text)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestParseHostsRefuses(t *testing.T) {
	for text, say := range map[string]string{
		"":                        "address is empty",
		"a,":                      "a name is missing after ','",
		"a b":                     "characters other than",
		"=db,x":                   "host name is empty",
		"a,b c":                   "characters other than",
		"web[1-3":                 "character 4: the bracket is not closed",
		"web[3-1]":                "character 5: the range runs backwards",
		"a=web[1-2]":              "1 names for 2 addresses",
		"a[1-3]=web[1-2]":         "3 names for 2 addresses",
		"a=x,a=y":                 `"a" is used twice, for x:22 and y:22`,
		"a!a":                     "no host is left",
		"web[1-3]/x":              "characters other than",
		"u:hunter2@db":            "a password is taken in the form",
		"u:hunter2@db[1-2]":       "a password is taken in the form",
		"u:hun[ter2@db":           "",
		"u:hunter2,x@db":          "",
		"a,u:hunter2@db":          "a password is taken in the form",
		"x[1-1000]y[1-1001]":      "more than 1000000",
		"x[1-600000],y[1-600000]": "more than 1000000",
		"ssh://u:hunter2@db[1-2]": "not a valid URL",
		"web[1-2]:99999":          "port is not a number",
	} {
		hosts, err := ParseHosts(text)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: got %d hosts, error %v, want one with %q", text, len(hosts), err, say)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("shows the password: %v", err)
		}
	}
}

func FuzzParseHosts(f *testing.F) {
	for _, s := range []string{"root@web[1-3]:22", "a[1-2]=b[1-2]", "[::1]:2,x", "ssh://u:p@h", "a!b&c", "u@[fe80::1%e]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "[") > 3 || len(text) > 60 {
			return // a million hosts take a while
		}
		hosts, err := ParseHosts(text)
		if err != nil {
			if len(hosts) != 0 {
				t.Fatalf("%q: hosts beside an error", text)
			}
			return
		}
		if err := Unique(hosts); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, h := range hosts {
			if err := ValidName(h.Name); err != nil {
				t.Fatal(err)
			}
		}
		if one, err := ParseHost(text); err == nil && !strings.ContainsAny(text, ",!&^") && (len(hosts) != 1 || hosts[0] != one) {
			t.Fatalf("%q is %+v alone, and %+v as a set", text, one, hosts)
		}
	})
}
