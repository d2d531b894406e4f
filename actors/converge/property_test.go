package converge_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// op is one thing that happens to a host, after some time.
type op struct {
	After time.Duration
	What  string
	Host  string
	Epoch uint64
}

// model is what the group is like, without any clock. Each step is logged; whether and when the group converges is then
// read from the log alone.
type model struct {
	members map[string]uint64
	said    map[string]bool // in the etcd
	busy    map[string]bool
	blind   time.Time // nothing is known until then
	log     []moment
}

// moment is from when on the group was settled or not; a break ends any calm before it.
type moment struct {
	at      time.Time
	settled bool
	broken  bool
}

func (m *model) settled(now time.Time) bool {
	for host, epoch := range m.members {
		if epoch == 0 || !m.said[host] || m.busy[host] {
			return false
		}
	}
	return len(m.members) > 0 && !now.Before(m.blind)
}

func (m *model) note(now time.Time, broken bool) {
	m.log = append(m.log, moment{now, m.settled(now), broken})
}

func (m *model) step(o op, now time.Time) {
	if !m.blind.IsZero() && !m.blind.After(now) { // the list came meanwhile
		m.note(m.blind, false)
		m.blind = time.Time{}
	}
	broken := false
	epoch, member := m.members[o.Host]
	switch o.What {
	case "join":
		if !member {
			m.members[o.Host] = 0
		}
	case "leave":
		delete(m.members, o.Host)
	case "attach":
		if member {
			broken = epoch != o.Epoch
			m.members[o.Host] = o.Epoch
		}
	case "detach":
		if member {
			m.members[o.Host] = 0
		}
	case "quiet", "noisy":
		m.said[o.Host] = o.What == "quiet"
	case "busy":
		m.busy[o.Host] = true
	case "idle":
		delete(m.busy, o.Host)
	case "blind":
		m.blind = now.Add(time.Second)
	}
	m.note(now, broken)
}

// converges returns when the log says so: the first moment behind a calm of the whole time.
func (m *model) converges(timeout time.Duration, end time.Time) (time.Time, bool) {
	for i, from := range m.log {
		if !from.settled {
			continue
		}
		over := from.at.Add(timeout)
		calm := over.Before(end)
		for _, later := range m.log[i+1:] {
			if later.at.Before(over) && (!later.settled || later.broken) {
				calm = false
			}
		}
		if calm {
			return over, true
		}
	}
	return time.Time{}, false
}

// play plays ops on the actor and on the model and says where they differ.
func play(t *testing.T, ops []op) (wrong string) {
	inBubble(t, converge.Group, func(r *rig) {
		m := &model{members: map[string]uint64{}, said: map[string]bool{}, busy: map[string]bool{}}
		for _, o := range ops {
			time.Sleep(o.After)
			synctest.Wait()
			if o.What == "blind" && !m.blind.IsZero() && m.blind.After(time.Now()) {
				continue // there is no watch to be broken
			}
			m.step(o, time.Now())
			switch o.What {
			case "join":
				r.send(messages.JoinGroup{Host: o.Host})
			case "leave":
				r.send(messages.LeaveGroup{Host: o.Host})
			case "attach":
				r.send(messages.HostAttached{Host: o.Host, Epoch: o.Epoch})
			case "detach":
				r.send(messages.HostDetached{Host: o.Host})
			case "quiet", "noisy":
				r.store.set(o.Host, o.What == "quiet")
			case "busy", "idle":
				r.send(messages.ReportQuiet{Host: o.Host, Quiet: o.What == "idle"})
			case "blind":
				r.store.broken <- errors.New("no leader")
			}
			synctest.Wait()
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		m.step(op{}, time.Now())
		want, ok := m.converges(5*time.Second, time.Now())
		all, at := r.parent.converged()
		switch {
		case ok && len(all) != 1, !ok && len(all) != 0:
			wrong = fmt.Sprintf("heard %v at %v; the model says %v, %v", all, at, ok, want)
		case ok && !at[0].Equal(want):
			wrong = fmt.Sprintf("%v too late", at[0].Sub(want))
		}
	})
	return wrong
}

// repair is what ends a trouble; a host that left joins first, and then it is attached.
var repair = map[string][]string{
	"noisy": {"quiet"}, "busy": {"idle"}, "detach": {"attach"}, "leave": {"join", "attach"}, "blind": nil, "attach": nil, "quiet": nil,
}

// Whatever happens in whatever order: the group converges when the slow model says so, and at no other time.
func TestAgainstTheModel(t *testing.T) {
	hosts := []string{"a", "b", "c"}
	troubles := []string{"noisy", "busy", "detach", "leave", "blind", "attach", "quiet"}
	// So that clocks and events rarely coincide: then both orders would be right.
	delays := []int{0, 0, 0, 317, 1009, 2503, 4751}
	rapid.Check(t, func(rt *rapid.T) {
		var ops []op
		add := func(what, host string) {
			ops = append(ops, op{
				After: time.Duration(rapid.SampledFrom(delays).Draw(rt, "after")) * time.Millisecond,
				What:  what, Host: host, Epoch: uint64(rapid.IntRange(1, 2).Draw(rt, "epoch")),
			})
		}
		for _, host := range hosts[:rapid.IntRange(1, 3).Draw(rt, "members")] {
			add("join", host)
			add("attach", host)
			add("quiet", host)
		}
		for range rapid.IntRange(0, 6).Draw(rt, "troubles") {
			trouble, host := rapid.SampledFrom(troubles).Draw(rt, "trouble"), rapid.SampledFrom(hosts).Draw(rt, "host")
			add(trouble, host)
			if rapid.IntRange(0, 4).Draw(rt, "repaired") > 0 {
				for _, what := range repair[trouble] {
					add(what, host)
				}
			}
		}
		if wrong := play(t, ops); wrong != "" {
			rt.Fatalf("%s", wrong)
		}
	})
}
