//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

func init() {
	helpers["keeper"] = keeper
}

// keeper is a payload that says when it is started, puts a key into etcd and looks ever after whether it is still there, and counts,
// until its home has the file go. What is wrong stands in the file wrong.
func keeper([]string) int {
	home := os.Getenv("HOME")
	say := func(name, text string) {
		f, err := os.OpenFile(filepath.Join(home, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err == nil {
			_, err = fmt.Fprintln(f, text)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	say("starts", strconv.Itoa(os.Getpid()))
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ETCDCTL_ENDPOINTS")}, Logger: zap.NewNop()})
	if err != nil {
		say("wrong", err.Error())
	}
	key := fmt.Sprintf("/mgmt-remote/%s/kv/kept/%s", os.Getenv("MGMT_REMOTE_RUN"), os.Getenv("MGMT_REMOTE_HOST"))
	go func() {
		for put := false; ; time.Sleep(20 * time.Millisecond) { // whoever is cut off tries again
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			if !put {
				_, err := client.Put(ctx, key, "kept")
				put = err == nil
			} else if got, err := client.Get(ctx, key); err == nil && (len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "kept") {
				say("wrong", fmt.Sprintf("what was put into etcd is gone: %v", got.Kvs))
			}
			cancel()
		}
	}()
	for i := 1; ; i++ {
		fmt.Println(i)
		if _, err := os.Stat(filepath.Join(home, "go")); err == nil {
			fmt.Println("end")
			return 0
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The model is run by so many at the same time, since it mostly waits, and for so long, unless -rapid.checks says how often.
const (
	modelChains = 4
	modelFor    = 30 * time.Second
	modelLeast  = 2 // sequences of each, however busy the machine is
)

// TestSessionModel does the worst to a session in random order, with a real initiator, shim and payload. Whatever happened: no payload is
// started twice, what was put into etcd is kept, the log is whole, and after a stop nothing is left but the cache.
func TestSessionModel(t *testing.T) {
	t.Parallel()
	bounded := true
	flag.Visit(func(f *flag.Flag) { bounded = bounded && f.Name != "rapid.checks" })
	for i := range modelChains {
		t.Run(strconv.Itoa(i+1), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			began := time.Now()
			rapid.Check(t, func(rt *rapid.T) {
				if bounded && !w.failed && w.sequences >= modelLeast && time.Since(began) > modelFor {
					return // what failed is to fail again, when it is made shorter
				}
				w.sequence(rt)
			})
			t.Logf("%d sequences in %v: %v", w.sequences, time.Since(began).Round(time.Second), w.steps)
		})
	}
}

// world is a host whose sequences come one after the other.
type world struct {
	*lab
	host      *sshfleet.Host
	args      []string
	failed    bool
	sequences int
	steps     map[string]int // how often each action was possible
}

// session is what is known of one sequence.
type session struct {
	*world
	rt        *rapid.T
	run       string
	initiator *process // the last one
	since     int      // how many events it had when it last lost its connection
	up        bool     // the link
	stopped   bool     // the initiator was told so, and lives or ended by that
	going     bool     // the payload was told to end well
	harmed    bool     // shim or payload were killed
	story     []string
}

func newWorld(t *testing.T) *world {
	l := emptyLab(t)
	f, err := sshfleet.New(sshfleet.Options{Dir: filepath.Join(l.dir, "x"), Names: []string{"h1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	h := f.Hosts()[0]
	return &world{lab: l, host: h, steps: map[string]int{}, args: []string{
		"run", "--json", "--keep-state", "--retry-for", "10m", "--known-hosts", f.KnownHostsFile(), "-i", f.KeyFile(),
		"--prefix", h.Prefix(), "-H", "h1=" + h.User() + "@" + h.Addr(), "--", publicSelf, "keeper",
	}}
}

// actions are what can happen. Each says whether it can happen now, and does it then.
var actions = map[string]func(*session) bool{
	"flap":           (*session).flap,
	"drop":           (*session).drop,
	"restore":        (*session).restore,
	"kill shim":      (*session).killShim,
	"kill payload":   (*session).killPayload,
	"kill initiator": (*session).killInitiator,
	"stop":           (*session).stop,
	"resume":         (*session).resume,
	"let it end":     (*session).letEnd,
	"wait":           (*session).wait,
}

func (w *world) sequence(rt *rapid.T) {
	// Harm comes once at most, and is what most sequences end with: the rest is more often.
	names := []string{
		"flap", "flap", "drop", "restore", "restore", "kill initiator", "kill initiator", "resume", "resume", "wait", "wait", "wait",
		"kill shim", "kill payload", "stop", "let it end",
	}
	plan := rapid.SliceOfN(rapid.SampledFrom(names), 1, 12).Draw(rt, "plan")
	begin := rapid.SampledFrom([]string{"wait", "wait", "wait", "flap"}).Draw(rt, "begin") // in the middle of the first connection, too
	w.forget("starts", "wrong", "go")
	w.sequences++
	s := &session{world: w, rt: rt, up: true}
	defer func() {
		if w.t.Failed() || rt.Failed() {
			w.failed = true
			w.t.Logf("what happened: %s", strings.Join(s.story, ", "))
		}
		if s.initiator != nil {
			_ = s.initiator.cmd.Process.Kill() // ended already, where all is well
			<-s.initiator.ended
		}
	}()
	s.initiator = w.start(w.args...)
	s.run = s.initiator.runID()
	for _, name := range append([]string{begin}, plan...) {
		if actions[name](s) {
			w.steps[name]++
			s.story = append(s.story, name)
			s.check()
		}
	}
	s.finish()
}

func (w *world) forget(names ...string) {
	for _, name := range names {
		if err := os.Remove(filepath.Join(w.host.Home(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.t.Fatal(err)
		}
	}
}

func (w *world) read(name string) string {
	data, err := os.ReadFile(filepath.Join(w.host.Home(), name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(data)
}

func (s *session) ended() bool {
	select {
	case <-s.initiator.ended:
		return true
	default:
		return false
	}
}

func (s *session) flap() bool {
	if !s.up {
		return false
	}
	now := len(s.initiator.all())
	if s.host.DropConnections() == 0 {
		return false
	}
	s.since = now
	return true
}

func (s *session) drop() bool {
	if !s.up {
		return false
	}
	s.up, s.since = false, len(s.initiator.all())
	s.host.RefuseConnections(true)
	s.host.DropConnections()
	return true
}

func (s *session) restore() bool {
	if s.up {
		return false
	}
	s.up = true
	s.host.RefuseConnections(false)
	s.hurry()
	return true
}

// hurry ends the waiting for the next attempt.
func (s *session) hurry() {
	ctx, cancel := context.WithTimeout(s.t.Context(), runFor)
	defer cancel()
	err := fleet.RetryOf(ctx, filepath.Join(s.dir, "mgmt-remote", "runs"), s.run, "")
	if err != nil && !errors.Is(err, fleet.ErrNoInitiator) {
		<-s.initiator.ended // or it ends just now
	}
}

// kill kills a process of the host, if it is still this program.
func (s *session) kill(pid int, program string) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || !strings.Contains(exe, program) || syscall.Kill(pid, syscall.SIGKILL) != nil {
		return false
	}
	awaitDead(s.t, pid)
	s.harmed = true
	return true
}

func (s *session) killShim() bool {
	if s.harmed {
		return false
	}
	data, err := os.ReadFile(filepath.Join(s.sessionDir(), "shim.json"))
	var record struct {
		PID int `json:"pid"`
	}
	if err != nil || json.Unmarshal(data, &record) != nil {
		return false // not begun yet, or over
	}
	return s.kill(record.PID, "mgmt-remote-shim")
}

func (s *session) killPayload() bool {
	pid, err := strconv.Atoi(strings.TrimSpace(s.read("starts")))
	return err == nil && !s.harmed && s.kill(pid, publicSelf)
}

func (s *session) killInitiator() bool {
	err := s.initiator.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) { // by itself, after a stop or the payload's end
		return false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	<-s.initiator.ended
	return true
}

func (s *session) stop() bool {
	if s.stopped || s.ended() || s.initiator.cmd.Process.Signal(os.Interrupt) != nil {
		return false
	}
	s.stopped = true
	s.initiator.awaitStderrOrEnd("stopping")
	return true
}

func (s *session) resume() bool {
	if !s.ended() {
		return false
	}
	s.stopped, s.since = false, 0
	s.initiator = s.start("resume", "--json", s.run)
	s.initiator.runID()
	return true
}

func (s *session) letEnd() bool {
	if s.going {
		return false
	}
	s.going = true
	if err := os.WriteFile(filepath.Join(s.host.Home(), "go"), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return true
}

// wait lets the initiator come as far as it can by now: until the payload's output goes on, or the end.
func (s *session) wait() bool {
	if s.ended() || !s.up {
		return false
	}
	attached := false
	s.initiator.awaitOrEnd(s.since, func(e event) bool {
		if e.Type == "state_changed" && e.State == "Waiting" {
			s.hurry()
		}
		attached = attached || e.Type == "payload_started"
		return attached && e.Type == "output_received" || e.Type == "host_finished"
	})
	return true
}

func (s *session) sessionDir() string {
	return filepath.Join(s.host.Prefix(), "mgmt-remote-"+strconv.Itoa(os.Getuid()), s.run, "h1")
}

// check is what holds at every moment.
func (s *session) check() {
	if starts := s.read("starts"); strings.Count(starts, "\n") > 1 {
		s.rt.Fatalf("the payload was started more than once: %q", starts)
	}
	if wrong := s.read("wrong"); wrong != "" {
		s.rt.Fatalf("%s", wrong)
	}
}

// finish stops the run, however often that takes, and looks at what is left.
func (s *session) finish() {
	s.restore()
	for range 3 {
		s.resume()
		s.stop()
		s.hurry()
		if code := s.initiator.code(); code == -1 {
			s.rt.Fatalf("the initiator does not end: %v\n%s", s.initiator.cmd.ProcessState, s.initiator.stderr)
		}
		if s.result().LeftBehind == "" {
			break
		}
	}
	s.check()
	switch r := s.result(); {
	case r.LeftBehind != "":
		s.rt.Fatalf("something is left: %+v", r)
	case r.Outcome == "canceled":
	case r.Outcome == "ok" && s.going: // harm may have come too late
	case r.Outcome == "payload failed" && s.harmed:
	default:
		s.rt.Fatalf("going %v, harmed %v, but %+v", s.going, s.harmed, r)
	}
	s.checkLog()
	s.checkGone()
	w := s.world
	w.steps["ended "+s.result().Outcome]++
	w.steps["with output"] += min(1, len(s.read("starts")))
}

// result is what the last initiator said of the host.
func (s *session) result() result {
	end := s.initiator.await("run_finished", func(e event) bool { return e.Type == "run_finished" })
	if len(end.Results) != 1 {
		s.rt.Fatalf("results %+v", end.Results)
	}
	return end.Results[0]
}

// checkLog holds that what was kept of the output is 1, 2, 3, …: as far as the shim got it, where that was killed.
func (s *session) checkLog() {
	log, err := os.ReadFile(filepath.Join(s.dir, "mgmt-remote", "runs", s.run, "logs", "h1.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	rest := string(log)
	for i := 1; rest != "" && rest != "end\n"; i++ {
		line := strconv.Itoa(i) + "\n"
		next, ok := strings.CutPrefix(rest, line)
		if !ok && strings.HasPrefix(line, rest) && s.harmed {
			break
		}
		if !ok {
			s.rt.Fatalf("instead of line %d there is %.100q", i, rest)
		}
		rest = next
	}
}

func (s *session) checkGone() {
	ctx, cancel := context.WithTimeout(context.Background(), endFor)
	defer cancel()
	run := filepath.Dir(s.sessionDir())
	left, err := leftovers.Wait(ctx, run)
	if err != nil {
		s.t.Fatal(err)
	}
	if !left.Empty() {
		s.rt.Fatalf("left over:\n%s", left)
	}
	if _, err := os.Lstat(run); !errors.Is(err, os.ErrNotExist) {
		s.rt.Fatalf("the run's directory is left: %v", err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(s.read("starts"))); err == nil {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasPrefix(exe, publicSelf) {
			s.rt.Fatalf("the payload is left: %d", pid)
		}
	}
}
