package become

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

func secret(text string) func(context.Context) (inventory.Secret, error) {
	return func(context.Context) (inventory.Secret, error) { return inventory.Secret(text), nil }
}

func TestPasswordIsAskedForOnce(t *testing.T) {
	var times atomic.Int32
	p := NewPasswords(func(context.Context) (inventory.Secret, error) {
		times.Add(1)
		return "pw", nil
	})
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			host := fmt.Sprint("h", i)
			got, err := p.take(t.Context(), host)
			if err != nil || got != "pw" {
				t.Errorf("%q, %v", got, err)
			}
			p.settle(host, accepted)
		})
	}
	all.Wait()
	if times.Load() != 1 {
		t.Errorf("asked %d times", times.Load())
	}
}

// One host alone has the password until somebody took it.
func TestPasswordIsTriedOnOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPasswords(secret("pw"))
		var sent atomic.Int32
		verdicts := make(chan verdict)
		for i := range 20 {
			go func() {
				host := fmt.Sprint("h", i)
				if _, err := p.take(t.Context(), host); err != nil {
					return
				}
				sent.Add(1)
				p.settle(host, <-verdicts)
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
	p := NewPasswords(secret("pw"))
	try := func(host string, v verdict) error {
		_, err := p.take(t.Context(), host)
		if err == nil {
			p.settle(host, v)
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
}

// A password that some host took goes to all, whatever single hosts say.
func TestProvenPassword(t *testing.T) {
	p := NewPasswords(secret("pw"))
	for i := range 10 {
		host, v := fmt.Sprint("h", i), refused
		if i == 0 {
			v = accepted
		}
		if _, err := p.take(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		p.settle(host, v)
	}
}

func TestPasswordsThatAreNone(t *testing.T) {
	if err := (*Passwords)(nil).Ask(t.Context()); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"", "two\nlines"} {
		if err := NewPasswords(secret(text)).Ask(t.Context()); fault.KindOf(err) != fault.Denied {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A host that is stopped while it asks does not answer for the others.
	ctx, cancel := context.WithCancel(t.Context())
	first := true
	p := NewPasswords(func(ctx context.Context) (inventory.Secret, error) {
		if first {
			first = false
			cancel()
			return "", ctx.Err()
		}
		return "pw", nil
	})
	if err := p.Ask(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got, err := p.take(t.Context(), "h1"); err != nil || got != "pw" {
		t.Errorf("%q, %v", got, err)
	}
}
