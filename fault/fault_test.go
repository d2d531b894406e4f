package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestErrorReadsAsASentence(t *testing.T) {
	f := New(Environment, "make directory", "%s is noexec", "/tmp").WithHost("web1").WithRemedy("use --prefix")
	if got, want := f.Error(), "web1: make directory: /tmp is noexec (use --prefix)"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestWrapKeepsTheInnermostKind(t *testing.T) {
	inner := New(Denied, "connect", "no key accepted")
	outer := Wrap(Bug, "run", fmt.Errorf("while dialing: %w", inner))
	if outer.Kind != Denied || outer.Op != "connect" {
		t.Fatalf("got %v %q", outer.Kind, outer.Op)
	}
	if Wrap(Lost, "x", nil) != nil {
		t.Fatal("Wrap(nil) must be nil")
	}
	if k := Wrap(Lost, "x", context.Canceled).Kind; k != Canceled {
		t.Fatalf("canceled context became %v", k)
	}
	if k := KindOf(errors.New("plain")); k != Unknown {
		t.Fatalf("plain error has kind %v", k)
	}
}

func TestKindTextRoundTrip(t *testing.T) {
	for k := Unknown; k <= Bug; k++ {
		text, _ := k.MarshalText()
		var back Kind
		if err := back.UnmarshalText(text); err != nil || back != k {
			t.Fatalf("%v: %v, %v", k, back, err)
		}
	}
	var k Kind
	if err := k.UnmarshalText([]byte("nonsense")); err == nil {
		t.Fatal("nonsense accepted")
	}
}
