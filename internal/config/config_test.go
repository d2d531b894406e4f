package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got, err := Parse("c.yaml", []byte("# all\nretry-for: 10m\nkeepalive-count: 0x10\nrun:\n  stay: true\n  host: [a, \"b\"]\n  env: []\ngraph: {check: {var: [x=1]}}\n"))
	want := []Setting{
		{Flag: "retry-for", Values: []string{"10m"}, Origin: "c.yaml:2:1"},
		{Flag: "keepalive-count", Values: []string{"0x10"}, Origin: "c.yaml:3:1"},
		{Command: "run", Flag: "stay", Values: []string{"true"}, Origin: "c.yaml:5:3"},
		{Command: "run", Flag: "host", Values: []string{"a", "b"}, List: true, Origin: "c.yaml:6:3"},
		{Command: "run", Flag: "env", List: true, Origin: "c.yaml:7:3"},
		{Command: "graph check", Flag: "var", Values: []string{"x=1"}, List: true, Origin: "c.yaml:8:17"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "{}", "null"} {
		if got, err := Parse("c.yaml", []byte(text)); err != nil || got != nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"x":                            "c.yaml:1:1: want keys",
		"[x]":                          "c.yaml:1:1: want keys",
		"a: 1\nb:\n":                   "c.yaml:2:3: b: no value",
		"a: 1\na: 2\n":                 "c.yaml:2:1: \"a\" is given twice",
		"a: [[1]]":                     "c.yaml:1:5: a: want a value",
		"a: &x 1\nb: *x\n":             "c.yaml:2:4: b: aliases",
		"<<: {a: 1}":                   "c.yaml:1:1: want the name",
		"? [a]\n: 1\n":                 "c.yaml:1:3: want the name",
		"a: 1\n---\nb: 2\n":            "a second document",
		"a: 1\nb: [\n":                 "c.yaml:",
		"a: \"\n":                      "c.yaml:",
		"a: {b: {c: {d: {e: {}}}}}":    "nested too deeply",
		strings.Repeat("#", maxSize+1): "larger than 1 MiB",
	} {
		if _, err := Parse("c.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("c.yaml", []byte("a:\nb:\n")); strings.Count(err.Error(), "no value") != 2 {
		t.Errorf("not all at once: %v", err)
	}
}

// A file that others could have written is as good as one that they have.
func TestFilesOfOthersAreRefused(t *testing.T) {
	name := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(name, []byte("a: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o660: false, 0o602: false} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(name); (err == nil) != ok || !ok && !strings.Contains(err.Error(), "chmod") {
			t.Errorf("%o: %v", mode, err)
		}
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(name, 0o600), os.Chown(name, 12345, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(name); err == nil || !strings.Contains(err.Error(), "uid 12345") {
			t.Error(err)
		}
	}
	if _, err := Read("/dev/null"); err != nil {
		t.Error(err)
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
}

func TestFiles(t *testing.T) {
	for _, tc := range []struct{ xdg, home, want string }{
		{"/x", "/h", "/x/mgmt-remote/mgmt-remote.yaml"},
		{"x", "/h", "/h/.config/mgmt-remote/mgmt-remote.yaml"},
		{"", "/h", "/h/.config/mgmt-remote/mgmt-remote.yaml"},
		{"", "", systemFile},
	} {
		if got := Files(func(name string) string { return map[string]string{"XDG_CONFIG_HOME": tc.xdg, "HOME": tc.home}[name] }); got[0] != tc.want {
			t.Errorf("%+v: %q", tc, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a: 1\nrun: {b: [x, y]}\n", "a: &x [1]\nb: *x", "? [a]\n: b", "a: !!binary x", "- 1", "a: |\n  x\n", "\"a\": {\"b\": null}"} {
		f.Add([]byte(s))
	}
	place := regexp.MustCompile(`^c\.yaml:\d+`)
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, err := Parse("c.yaml", data)
		if err != nil && (settings != nil || len(data) < maxSize && !place.MatchString(err.Error())) {
			t.Errorf("%+v, %v", settings, err)
		}
		for _, s := range settings {
			if s.Flag == "" || !s.List && len(s.Values) != 1 || !place.MatchString(s.Origin) {
				t.Errorf("%+v", s)
			}
		}
	})
}
