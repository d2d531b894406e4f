package live

import (
	"bytes"
	"strings"
	"testing"
)

// TestMessagesWaitForTheView: what is said while a view is shown is in the view, and on standard error afterwards.
func TestMessagesWaitForTheView(t *testing.T) {
	var out bytes.Buffer
	m := NewMessages(&out)
	write := func(text string) {
		t.Helper()
		if n, err := m.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("before\n")
	var shown []string
	m.divert(func(text string) { shown = append(shown, text) })
	write("one\ntwo\n")
	if out.String() != "before\n" || strings.Join(shown, "|") != "one|two" {
		t.Errorf("%q, shown %q", out.String(), shown)
	}
	write(strings.Repeat("x", maxHeld) + "\n")
	m.restore()
	write("after\n")
	if got := out.String(); len(got) != len("before\n")+maxHeld+len("after\n") || !strings.HasSuffix(got, "x\nafter\n") {
		t.Errorf("%d bytes, %q", len(got), got[:20])
	}
	var nobody *Messages
	nobody.divert(nil)
	nobody.restore()
}
