package inventory

import (
	"strings"
	"testing"
)

func TestParseJump(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"none":                            "",
		"bastion":                         "bastion",
		"ops@bastion:2222":                "ops@bastion:2222",
		"a,b@b.example:23,[2001:db8::7]":  "a b@b.example:23 [2001:db8::7]",
		"ssh://ops@bastion:2222,second":   "ops@bastion:2222 second",
		"2001:db8::7,ssh://[2001:db8::8]": "[2001:db8::7] [2001:db8::8]",
		"a:22,a:23":                       "a a:23",
	} {
		hops, err := ParseJump(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := chain(hops); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestThrough(t *testing.T) {
	hops, err := ParseJump("ops@a,b:23")
	if err != nil {
		t.Fatal(err)
	}
	h := Host{Name: "h", Addr: "h", Port: 22}
	if got := h.Route(); got != "" {
		t.Errorf("a host without jump host has the route %q", got)
	}
	h = h.Through(hops)
	if got := h.Route(); got != "ops@a:22,@b:23" {
		t.Errorf("route %q", got)
	}
	if h.Jump.Addr != "b" || h.Jump.Jump.Addr != "a" || h.Jump.Jump.Jump != nil {
		t.Errorf("passes %s after %s", h.Jump, h.Jump.Jump)
	}
	if h = h.Through(nil); h.Jump != nil {
		t.Error("no jump hosts are none")
	}
}

func chain(hops []Host) string {
	words := make([]string, len(hops))
	for i, h := range hops {
		words[i] = h.String()
	}
	return strings.Join(words, " ")
}

func TestParseJumpRefuses(t *testing.T) {
	for text, words := range map[string]string{
		",":                        "address is empty",
		"a,":                       "address is empty",
		"a,none":                   "stands alone",
		"a,b,ops@a":                "named twice",
		"ssh://ops:s3cret@bastion": "a password is not taken here",
		"ops:s3cret@bastion":       "a password",
		"ssh://a%2Cb@bastion":      "comma",
		"http://bastion":           "only scheme",
		"name=bastion":             "characters other than",
		"a:99999":                  "port",
		"a b":                      "characters other than",
	} {
		_, err := ParseJump(text)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", text, err, words)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("shows the password: %v", err)
		}
	}
}

// FuzzParseJump: what is taken comes back the same from what is printed, holds no password, and no error shows one.
func FuzzParseJump(f *testing.F) {
	for _, seed := range []string{"none", "a,b", "u@h:22,[::1]:23", "ssh://u:p@h", "ssh://u@h,x=y", "ssh://a%2Cb@h", ","} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		hops, err := ParseJump(text)
		if err != nil {
			return
		}
		words := make([]string, len(hops))
		for i, h := range hops {
			if h.Password != "" || h.Addr == "" || h.Port < 1 || h.Port > 65535 || h.Name == "" {
				t.Fatalf("%q gives %+v", text, h)
			}
			words[i] = h.String()
		}
		again, err := ParseJump(strings.Join(words, ","))
		if err != nil || chain(again) != chain(hops) {
			t.Fatalf("%q gives %q, and that %q, %v", text, chain(hops), chain(again), err)
		}
	})
}
