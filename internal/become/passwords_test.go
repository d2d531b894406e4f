package become

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

func secret(text string) func(context.Context) (inventory.Secret, error) {
	return func(context.Context) (inventory.Secret, error) { return inventory.Secret(text), nil }
}

// One host alone has the password until somebody took it.
func TestPasswordIsTriedOnOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPasswords()
		var sent atomic.Int32
		verdicts := make(chan verdict)
		for i := range 20 {
			go func() {
				_, settle, err := p.For(fmt.Sprint("h", i), secret("pw")).take(t.Context())
				if err != nil {
					return
				}
				sent.Add(1)
				settle(<-verdicts)
			}()
		}
		for i := int32(1); i <= 2; i++ {
			synctest.Wait()
			if sent.Load() != i {
				t.Fatalf("%d hosts have got it, want %d", sent.Load(), i)
			}
			verdicts <- refused
		}
		verdicts <- accepted
		synctest.Wait()
		if sent.Load() != 20 {
			t.Errorf("%d hosts have got it", sent.Load())
		}
		for range 17 {
			verdicts <- accepted
		}
	})
}

func TestWrongPasswordIsNotSentAgain(t *testing.T) {
	p := NewPasswords()
	try := func(host string, v verdict) error {
		_, settle, err := p.For(host, secret("pw")).take(t.Context())
		if err == nil {
			settle(v)
		}
		return err
	}
	if err := errors.Join(try("h1", refused), try("h2", unheard), try("h2", unheard)); err != nil {
		t.Fatal(err)
	}
	if err := try("h1", refused); fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "not sent again") {
		t.Errorf("again on the same host: %v", err)
	}
	if err := errors.Join(try("h2", unheard), try("h3", refused)); err != nil {
		t.Fatal(err)
	}
	if err := try("h2", accepted); fault.KindOf(err) != fault.Denied {
		t.Errorf("after three lost answers: %v", err)
	}
	if err := try("h4", refused); fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "no other host gets it") {
		t.Errorf("on a fourth host: %v", err)
	}
	// Another password is another matter, also on a host that refused the first.
	got, settle, err := p.For("h1", secret("other")).take(t.Context())
	if err != nil || got != "other" {
		t.Fatalf("%q, %v", got, err)
	}
	settle(accepted)
}

// A password that some host took goes to all, whatever single hosts say.
func TestProvenPassword(t *testing.T) {
	p := NewPasswords()
	for i := range 10 {
		v := refused
		if i == 0 {
			v = accepted
		}
		_, settle, err := p.For(fmt.Sprint("h", i), secret("pw")).take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settle(v)
	}
}

func TestPasswordsThatAreNone(t *testing.T) {
	if err := (*Password)(nil).Ask(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := (*Password)(nil).take(t.Context()); err == nil {
		t.Error("a host without a password got one")
	}
	for _, text := range []string{"", "two\nlines"} {
		if err := NewPasswords().For("h1", secret(text)).Ask(t.Context()); fault.KindOf(err) != fault.Denied {
			t.Errorf("%q: %v", text, err)
		}
	}
	gone := fault.New(fault.Canceled, "ask", "at the prompt")
	for _, c := range []struct {
		err  error
		kind fault.Kind
	}{{errors.New("no file"), fault.Denied}, {gone, fault.Canceled}} {
		p := NewPasswords().For("h1", func(context.Context) (inventory.Secret, error) { return "", c.err })
		if err := p.Ask(t.Context()); fault.KindOf(err) != c.kind || !errors.Is(err, c.err) {
			t.Errorf("%v for %v", err, c.err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewPasswords().For("h1", secret("pw")).Ask(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("of a host that was stopped: %v", err)
	}
}
