package transfer

import (
	"reflect"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

func TestBetween(t *testing.T) {
	for out, want := range map[string][]string{
		"\nM\nok\nM\n":                    {"ok"},
		"motd, no newline\nM\nok\nM\nbye": {"ok"},
		"\r\nM\r\nok\r\nhash\r\nM\r\n":    {"ok", "hash"},
		"\nM\nfail it said M\nM\n":        {"fail it said M"},
		"\nM\nM\n":                        {""},
		"\nM\nok\n":                       nil,
		"":                                nil,
		"sh: not found":                   nil,
	} {
		if got, ok := between("M", out); ok != (want != nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q %v", out, got, ok)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add("\nM\nok\nM\n")
	f.Add("\nM\nfail mv: No space left on device\nM\n")
	f.Fuzz(func(t *testing.T, out string) {
		lines, _ := between("M", out)
		for _, line := range lines {
			if strings.Contains(line, "\n") {
				t.Fatalf("%q is no line", line)
			}
			err := installed(Install{Path: "/x"}, line)
			if word, _, _ := strings.Cut(line, " "); (err == nil) != (word == "ok") {
				t.Fatalf("%q gave %v", line, err)
			}
			if err != nil && fault.KindOf(err) != fault.Environment {
				t.Fatalf("%v", err)
			}
		}
	})
}
