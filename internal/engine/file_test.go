package engine

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// TestFile takes one file resource from a prepared state to its declared one: what check says, what apply leaves behind,
// and that there is nothing left to do then.
func TestFile(t *testing.T) {
	// The tests run as root or not; to root every owner is allowed.
	uid := strconv.Itoa(os.Getuid())
	if os.Getuid() == 0 {
		uid = "12345"
	}
	type prepare func(t *testing.T, p string)
	file := func(content string, mode fs.FileMode) prepare {
		return func(t *testing.T, p string) {
			write(t, p, content)
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	directory := func(t *testing.T, p string) {
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	full := func(t *testing.T, p string) {
		directory(t, p)
		write(t, p+"/inside", "x")
	}
	link := func(t *testing.T, p string) {
		write(t, p+".target", "target")
		if err := os.Symlink(p+".target", p); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*testing.T, string) {}
	for name, c := range map[string]struct {
		before prepare
		fields string // of the resource; %s is the path
		change string // what check says; with a leading "!" the error contains the rest
		after  string // type, mode and content; "-" for nothing there
	}{
		"create":              {nothing, "path: %s, content: abc, mode: 0604", "create with 3 bytes", "-rw----r-- abc"},
		"create empty":        {nothing, "path: %s, mode: 0600", "create", "-rw------- "},
		"exists is enough":    {file("abc", 0o640), "path: %s", "", "-rw-r----- abc"},
		"same":                {file("abc", 0o640), "path: %s, content: abc, mode: 0640", "", "-rw-r----- abc"},
		"content keeps mode":  {file("abcd", 0o751), "path: %s, content: abc", "content of 4 bytes → 3 bytes", "-rwxr-x--x abc"},
		"same length":         {file("abd", 0o640), "path: %s, content: abc", "content of 3 bytes → 3 bytes", "-rw-r----- abc"},
		"emptied":             {file("abd", 0o640), "path: %s, content: ''", "content of 3 bytes → 0 bytes", "-rw-r----- "},
		"mode only":           {file("abc", 0o640), "path: %s, mode: 0600", "mode 0640 → 0600", "-rw------- abc"},
		"content and mode":    {file("x", 0o640), "path: %s, content: abc, mode: 4755", "content of 1 bytes → 3 bytes, mode 0640 → 4755", "urwxr-xr-x abc"},
		"absent":              {file("x", 0o640), "path: %s, state: absent", "remove a regular file", "-"},
		"absent already":      {nothing, "path: %s, state: absent", "", "-"},
		"absent no parent":    {nothing, "path: %s/a/b, state: absent", "", "-"},
		"no parent":           {nothing, "path: %s/a/b, content: x", "create with 1 bytes", "!a directory above it is missing"},
		"directory":           {nothing, "path: %s/, mode: 1777", "create directory", "dtrwxrwxrwx "},
		"directory mode":      {directory, "path: %s/, mode: 0755", "mode 0700 → 0755", "drwxr-xr-x "},
		"directories":         {nothing, "path: %s/a/b/, recurse: true", "create directory", "drwxr-xr-x "},
		"directory no parent": {nothing, "path: %s/a/b/", "create directory", "!a directory above it is missing"},
		"remove directory":    {directory, "path: %s/, state: absent", "remove a directory", "-"},
		"not empty":           {full, "path: %s/, state: absent", "remove a directory", "!set recurse: true"},
		"remove all":          {full, "path: %s/, state: absent, recurse: true", "remove directory with everything in it", "-"},
		"directory in way":    {directory, "path: %s, content: x", "!is a directory; set force: true", ""},
		"directory replaced":  {directory, "path: %s, content: x, force: true, mode: 0600", "remove a directory, create with 1 bytes", "-rw------- x"},
		"full dir in way":     {full, "path: %s, content: x, force: true", "remove a directory, create with 1 bytes", "!set recurse: true"},
		"file in way":         {file("x", 0o600), "path: %s/", "!is a regular file; set force: true", ""},
		"file replaced":       {file("x", 0o600), "path: %s/, force: true, mode: 0700", "remove a regular file, create directory", "drwx------ "},
		"link in way":         {link, "path: %s, content: x", "!is a symbolic link; set force: true", ""},
		"link replaced":       {link, "path: %s, content: x, force: true, mode: 0600", "remove a symbolic link, create with 1 bytes", "-rw------- x"},
		"link removed":        {link, "path: %s, state: absent", "remove a symbolic link", "-"},
		"absent dir is file":  {file("x", 0o600), "path: %s/, state: absent", "!is a regular file; set force: true", ""},
		"absent file is dir":  {directory, "path: %s, state: absent", "!is a directory; set force: true", ""},
		"owner":               {file("x", 0o4755), "path: %s, owner: " + uid + ", mode: 4755", "?", "urwxr-xr-x x"},
		"unknown owner":       {nothing, "path: %s, owner: no-such-user", "!owner: user: unknown user", ""},
		"unknown group":       {nothing, "path: %s, group: no-such-group", "!group: ", ""},
		"source":              {file("old", 0o600), "path: %[1]s, source: %[1]s.src", "content of 3 bytes → 7 bytes", "-rw------- src 123"},
		"source missing":      {nothing, "path: %s, source: /nowhere/at/all", "create", "!source: open /nowhere/at/all"},
		"source a directory":  {file("old", 0o600), "path: %s, source: /etc", "!/etc is a directory", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := in(dir, "p")
			write(t, p+".src", "src 123")
			c.before(t, p)
			fields := c.fields
			if strings.Contains(fields, "%") {
				fields = fmt.Sprintf(fields, p)
			}
			def := parse(t, "resources: {file: [{name: f, %s}]}", fields)
			f := &fileResource{def.Resources[0].Spec.(*graph.File)}
			change, err := f.check(t.Context())
			if text, fails := strings.CutPrefix(c.change, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Fatalf("check: %q, %v", change, err)
				}
				if _, err := f.apply(t.Context()); err == nil {
					t.Fatal("apply does what check refuses")
				}
				return
			}
			if c.change == "?" { // depends on who runs the test
				c.change = change
			}
			if err != nil || change != c.change {
				t.Fatalf("check: %q, %v; want %q", change, err, c.change)
			}
			_, err = f.apply(context.Background())
			if text, fails := strings.CutPrefix(c.after, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Fatalf("apply: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("apply: %v", err)
			}
			if got := look(t, f.spec.Location()); got != c.after {
				t.Errorf("got %q, want %q", got, c.after)
			}
			if f.spec.Owner != "" {
				info, err := os.Stat(p)
				if err != nil {
					t.Fatal(err)
				}
				if got, _ := ids(info); strconv.Itoa(got) != uid {
					t.Errorf("owner %d, want %s", got, uid)
				}
			}
			if change, err := f.check(t.Context()); err != nil || change != "" {
				t.Errorf("still to do: %q, %v", change, err)
			}
			if _, err := os.Lstat(p + ".target"); err == nil && read(t, p+".target") != "target" {
				t.Error("followed a symbolic link")
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if !strings.HasPrefix(e.Name(), "p") {
					t.Errorf("left behind: %s", e.Name())
				}
			}
		})
	}
}

func look(t *testing.T, p string) string {
	t.Helper()
	info, err := os.Lstat(p)
	if os.IsNotExist(err) {
		return "-"
	}
	if err != nil && strings.Contains(err.Error(), "not a directory") {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	s := info.Mode().String() + " "
	if info.Mode().IsRegular() {
		s += read(t, p)
	}
	return s
}
