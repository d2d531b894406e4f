package converge_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func (s *fakeStore) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *fakeStore) exported() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.exports)
}

// A host that tells directly that it is busy is believed at once, however short that was and whenever its key is written.
func TestReportsCountAtOnce(t *testing.T) {
	for name, reports := range map[string][]bool{"a moment": {false, true}, "twice": {false, false, true, true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, converge.Group, func(r *rig) {
				r.settle("a", "b")
				r.store.change(func() { r.store.putErr = errors.New("no leader") })
				time.Sleep(4 * time.Second)
				for _, q := range reports {
					r.system.Root.Send(r.parent.child, messages.ReportQuiet{Host: "a", Quiet: q})
				}
				synctest.Wait()
				r.expectAfter(5*time.Second, 2)
			})
		})
	}
}

// That a host is quiet counts when its key says so: others read it there, and it may have changed since.
func TestAReportOfQuietAloneIsNotEnough(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.settle("a")
		r.send(messages.JoinGroup{Host: "b"}, messages.HostAttached{Host: "b", Epoch: 1}, messages.ReportQuiet{Host: "b", Quiet: true})
		if r.store.at(keys.Quiet(run, "b")) != "true" {
			t.Error("the key is not written")
		}
		r.expectNone(time.Minute)
		r.store.set("b", true)
		r.send(messages.ReportQuiet{Host: "b", Quiet: false})
		r.expectNone(time.Minute)
		r.send(messages.ReportQuiet{Host: "b", Quiet: true})
		r.expectAfter(5*time.Second, 2)
	})
}

// While the etcd can't be asked nothing is said, and then the whole time passes once more.
func TestAnEtcdThatIsAway(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.settle("a", "b")
		r.store.change(func() { r.store.revErr = errors.New("unavailable") })
		r.expectNone(time.Minute)
		if r.store.asked < 5 {
			t.Errorf("asked %d times", r.store.asked)
		}
		r.store.change(func() { r.store.revErr = nil })
		before := time.Now()
		for all, _ := r.parent.converged(); len(all) == 0; all, _ = r.parent.converged() {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		if d := time.Since(before); d > 7*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// A change that the etcd has and the watch has not told yet is waited for.
func TestAChangeOnItsWay(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.settle("a", "b")
		r.store.change(func() { r.store.revisions = map[string]int64{"b": 7} })
		r.expectNone(time.Minute)
		r.store.set("b", false) // here it is
		r.store.set("b", true)
		r.store.change(func() { r.store.revisions = nil })
		r.expectAfter(5*time.Second, 2)
	})
}

func TestForgetHost(t *testing.T) {
	const export, other = "/mgmt-remote/" + run + "/exports/c/file/motd", "/mgmt-remote/" + run + "/exports/a/file/motd"
	for name, c := range map[string]struct {
		before func(r *rig)
		do     func(r *rig) // three seconds after all are settled, when c fails
		left   time.Duration
	}{
		"nothing exported": {nil, nil, 2 * time.Second},
		// Whoever used it may have something to do now, and needs time to say so.
		"exported": {func(r *rig) { r.store.exports[export] = true }, nil, 5 * time.Second},
		"deleted late": {func(r *rig) { r.store.exports[export] = true; r.store.putErr = errors.New("no leader") }, func(r *rig) {
			r.expectNone(time.Minute)
			r.store.change(func() { r.store.putErr = nil })
			for r.store.exported() > 1 {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
		}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, converge.Group, func(r *rig) {
				r.store.exports = map[string]bool{other: true}
				r.settle("a", "b", "c")
				time.Sleep(3 * time.Second)
				if c.before != nil {
					r.store.change(func() { c.before(r) })
				}
				r.send(messages.LeaveGroup{Host: "c"}, messages.ForgetHost{Host: "c"})
				if c.do != nil {
					c.do(r)
				}
				r.expectAfter(c.left, 2)
				if r.store.exported() != 1 || !r.store.exports[other] {
					t.Errorf("left: %v", r.store.exports)
				}
			})
		})
	}
}
