package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// person answers with the name of the group in the question, and remembers the questions.
type person struct {
	mu    sync.Mutex
	asked []string
	err   error // instead of an answer
}

func (p *person) Secret(ctx context.Context, question string) (Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, question)
	if p.err != nil {
		return "", p.err
	}
	return Secret(question), ctx.Err()
}

func becomes(name string) Host {
	return Host{Name: name, BecomeUser: "root", reached: &inventory.Host{Addr: name + ".example", User: "ann"}}
}

// Each host has its own password, or that of its group, or that of all, or the one that a program knows. A person is asked once for each.
func TestBecomePasswords(t *testing.T) {
	who := &person{}
	b := newBecoming(Become{AskPassword: true}, who)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			h := becomes(fmt.Sprint("h", i))
			if i%2 == 1 {
				h.BecomeShared = "web"
			}
			if err := b.password(h).Ask(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	slices.Sort(who.asked)
	if want := []string{"Password to become another user, for all hosts: ", "Password to become another user, for hosts of web: "}; !slices.Equal(who.asked, want) {
		t.Errorf("asked %q", who.asked)
	}

	var wanted []Login
	b = newBecoming(Become{Password: func(_ context.Context, to Login) (Secret, error) {
		wanted = append(wanted, to)
		return "pw", nil
	}}, nil)
	own, nobody := becomes("own"), becomes("nobody")
	own.BecomePassword, nobody.BecomeUser = "mine", ""
	for _, h := range []Host{own, nobody, becomes("h1")} {
		if err := b.password(h).Ask(t.Context()); err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
	}
	if want := []Login{{Host: "h1", Addr: "h1.example", User: "ann"}}; !slices.Equal(wanted, want) {
		t.Errorf("the program was asked about %v", wanted)
	}
	if b.password(nobody) != nil || newBecoming(Become{}, nil).password(becomes("h1")) != nil {
		t.Error("a password for one who needs none, or has none")
	}
}

// A host that is stopped while it asks does not answer for the others; a person who does not answer does.
func TestBecomePasswordThatNobodyGives(t *testing.T) {
	who := &person{}
	b := newBecoming(Become{AskPassword: true}, who)
	ctx, cancel := context.WithCancel(t.Context())
	<-b.turn // somebody else asks
	cancel()
	if err := b.password(becomes("h1")).Ask(ctx); !errors.Is(err, context.Canceled) || len(who.asked) > 0 {
		t.Errorf("%v after %q", err, who.asked)
	}
	b.turn <- struct{}{}
	who.err = fault.New(fault.Canceled, "ask", "at the prompt")
	for _, name := range []string{"h2", "h3"} {
		if err := b.password(becomes(name)).Ask(t.Context()); fault.KindOf(err) != fault.Canceled {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(who.asked) != 1 {
		t.Errorf("asked %q", who.asked)
	}
}

func TestNobodyToAskToBecome(t *testing.T) {
	r := newRig(t, simhost.Payload{}, simhost.Payload{})
	r.opts.Hosts[1].BecomeUser, r.opts.Hosts[1].BecomeShared = "root", "web"
	if _, err := New(r.opts); fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "h2") || !strings.Contains(err.Error(), "nobody to ask") {
		t.Errorf("%v", err)
	}
	r.opts.Hosts[1].BecomePassword = "pw"
	if f, err := New(r.opts); err != nil {
		t.Error(err)
	} else if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// What is kept of passwords is who has the same one: whoever continues the run is asked for each once.
func TestSavedBecomePasswords(t *testing.T) {
	r := newRig(t, says("1"), says("2"), says("3"), says("4"))
	r.opts.SSH.Prompter, r.opts.KeepState = &person{}, true
	for i, secret := range []Secret{"blue moon", "blue moon", "red sun", ""} {
		r.opts.Hosts[i].BecomePassword = secret // nobody becomes anybody: it is not used
	}
	r.opts.Hosts[3].BecomeShared = "web"
	report, err := r.fleet().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peek, err := store.PeekRun(r.opts.StateDir, report.Run)
	if err != nil {
		t.Fatal(err)
	}
	if spec := string(peek.Spec); strings.Contains(spec, "blue") || strings.Contains(spec, "sun") {
		t.Errorf("a password is kept: %s", spec)
	}
	opts, err := Saved(r.opts.StateDir, report.Run)
	if err != nil {
		t.Fatal(err)
	}
	var shared []string
	for _, h := range opts.Hosts {
		if h.BecomePassword != "" {
			t.Errorf("%s has a password", h.Name)
		}
		shared = append(shared, h.BecomeShared)
	}
	if want := []string{"h[1-2]", "h[1-2]", "h3", "web"}; !slices.Equal(shared, want) {
		t.Errorf("shared %q", shared)
	}
}
