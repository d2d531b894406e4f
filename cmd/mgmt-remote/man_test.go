package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Each command has a page with its flags and examples, which both of the usual readers take without a word.
func TestManPages(t *testing.T) {
	root, dir := newRootCommand(), t.TempDir()
	if err := writeManPages(root, dir, "2026-01-02"); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) != len(manCommands(root)) {
		t.Fatalf("%d pages for %d commands: %v", len(pages), len(manCommands(root)), err)
	}
	for _, c := range manCommands(root) {
		file := filepath.Join(dir, manName(c)+".1")
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(source, []byte(manPage(c, "2026-01-02"))) {
			t.Errorf("%s: two pages differ", file)
		}
		for line := range strings.Lines(string(source)) { // readers wrap them; a hyphen of an option must be one to copy
			if strings.Contains(line, "--") {
				t.Errorf("%s: not escaped: %s", file, line)
			}
		}
		lint := exec.Command("mandoc", "-T", "lint", "-W", "warning", file)
		if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("mandoc: %v\n%s", err, out)
		}
		man := exec.Command("man", "--warnings", "-l", file)
		man.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=500", "MANPAGER=cat", "MAN_KEEP_FORMATTING=")
		var out, complaints bytes.Buffer
		man.Stdout, man.Stderr = &out, &complaints
		if err := man.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("man: %v\n%s", err, &complaints)
		}
		for _, want := range []string{"EXAMPLES", "2026-01-02", "--help"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s lacks %s", file, want)
			}
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(out.String(), strings.TrimSpace(line)) {
				t.Errorf("%s: an example is not as it was: %s", file, line)
			}
		}
	}
}

func TestManDate(t *testing.T) {
	for _, tc := range []struct{ epoch, built, want string }{
		{"86400", "2026-01-02T03:04:05Z", "1970-01-02"},
		{"", "2026-01-02T03:04:05Z", "2026-01-02"},
		{"", "", ""},
	} {
		if got, err := manDate(tc.epoch, tc.built); err != nil || got != tc.want {
			t.Errorf("%+v: %q, %v", tc, got, err)
		}
	}
	if _, err := manDate("yesterday", ""); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Error(err)
	}
}
