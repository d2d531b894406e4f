//go:build linux

package e2e

import (
	"context"
	"errors"
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
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

func init() {
	helpers["onceonly"] = onceOnly
}

// onceOnly is a payload that leaves its PID in its home, writes a key to etcd before the first initiator can be killed while it runs, and
// ends when its home has the file go and the key is still there. In between it counts.
func onceOnly([]string) int {
	if err := onceOnlyPayload(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("end")
	return 0
}

func onceOnlyPayload() error {
	home := os.Getenv("HOME")
	starts, err := os.OpenFile(filepath.Join(home, "starts"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(starts, os.Getpid())
	if err = errors.Join(err, starts.Close()); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ETCDCTL_ENDPOINTS")}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	key := fmt.Sprintf("/mgmt-remote/%s/kv/once/%s", os.Getenv("MGMT_REMOTE_RUN"), os.Getenv("MGMT_REMOTE_HOST"))
	ctx, cancel := context.WithTimeout(context.Background(), runFor)
	defer cancel()
	for { // a request that is under way when the initiator dies may have been carried out or not, which only its sender can mend
		_, err := client.Put(ctx, key, "kept")
		if err == nil {
			break
		}
		if grpcstatus.Code(err) != codes.Unavailable {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(home, "put"), nil, 0o600); err != nil {
		return err
	}
	for i := 1; ; i++ {
		fmt.Println(i)
		if _, err := os.Stat(filepath.Join(home, "go")); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	got, err := client.Get(ctx, key)
	if err == nil && (len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "kept") {
		err = fmt.Errorf("what was written to etcd is gone: %v", got.Kvs)
	}
	return err
}

// TestTheInitiatorIsKilled kills the initiator as each of the nine steps begins, and has another one continue.
func TestTheInitiatorIsKilled(t *testing.T) {
	t.Parallel()
	for i, step := range []string{"connect", "make directory", "copy", "tunnel", "run", "finish", "close tunnel", "clean up", "disconnect"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			var first *process
			ready := make(chan struct{})
			first = l.startWith(func(e event) bool {
				if e.Type == "step_started" && e.Host == "h1" && e.Step == step {
					<-ready
					first.signal(syscall.SIGKILL)
				}
				return true
			}, l.args("--json", "--keep-state", "--", publicSelf, "onceonly")...)
			close(ready)
			run := first.runID()
			later := l.hosts
			if i >= 5 { // the payload has to end for these, and the other must not: or the run might be finished before it is killed
				for _, h := range l.hosts {
					first.awaitOutput(h.name, "1\n")
				}
				l.hosts[0].goOn(t)
				later = l.hosts[1:]
			}
			first.wantCode(-1)

			second := l.start("resume", "--json", run)
			for _, h := range later {
				second.awaitAnyOutput(h.name)
				h.goOn(t)
			}
			second.wantCode(0)
			end := second.await("run_finished", func(e event) bool { return e.Type == "run_finished" })
			if len(end.Results) != len(l.hosts) {
				t.Errorf("results %+v", end.Results)
			}
			for _, r := range end.Results {
				if r.Outcome != "ok" {
					t.Errorf("%+v", r)
				}
			}
			for _, h := range l.hosts {
				h.wantOneStart(t)
				l.wantWholeLog(t, run, h.name)
				h.checkCacheOnly(t, run)
			}
			if end.Run != run {
				t.Errorf("run %s became %s", run, end.Run)
			}
		})
	}
}

// TestDefinitionSavedWhileNobodyDrives: what is saved to a definition between two initiators goes to the host with the second one,
// which goes on following the file, from wherever it was started.
func TestDefinitionSavedWhileNobodyDrives(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	target := filepath.Join(h.Home, "declared")
	save := func(content string) {
		l.file("site.yaml", fmt.Sprintf("graph: g\nresources:\n  file:\n  - {name: f, path: %s, content: %s, state: exists}\n", target, content), 0o600)
	}
	save("one")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	site, err := filepath.Rel(here, filepath.Join(l.dir, "site.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	first := l.start(l.args("--json", "--keep-state", site)...)
	run := first.runID()
	h.wantFile(t, target, "one")
	first.awaitStarted(h.name) // the file is there before this is said
	first.signal(syscall.SIGKILL)
	first.wantCode(-1)

	save("two")
	second := l.start("resume", "--json", run)
	h.wantFile(t, target, "two")
	save("three")
	h.wantFile(t, target, "three")
	second.signal(os.Interrupt)
	second.wantCode(130)
	started := 0
	for _, e := range append(first.all(), second.all()...) {
		if e.Type == "payload_started" && !e.Reattached {
			started++
		}
	}
	if started != 1 {
		t.Errorf("%d payloads were started", started)
	}
	h.checkCacheOnly(t, run)
}

// awaitAnyOutput waits until the host's payload runs and says something, to this initiator or to an earlier one.
func (p *process) awaitAnyOutput(host string) {
	p.t.Helper()
	p.await("output of "+host, func(e event) bool { return e.Type == "output_received" && e.Host == host && !e.Stderr })
}

// wantOneStart fails the test unless the host's payload was started exactly once.
func (h *host) wantOneStart(t *testing.T) {
	t.Helper()
	starts, err := os.ReadFile(filepath.Join(h.Home, "starts"))
	if err != nil || strings.Count(string(starts), "\n") != 1 {
		t.Errorf("%s: the payload was started as %q, %v", h.name, starts, err)
	}
}

// wantWholeLog fails the test unless the log that the initiators kept of the host's output is 1, 2, 3, …, end.
func (l *lab) wantWholeLog(t *testing.T, run, host string) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(l.dir, "mgmt-remote", "runs", run, "logs", host+".log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(log), "\n")
	if len(lines) < 3 || lines[len(lines)-2] != "end" || lines[len(lines)-1] != "" {
		t.Errorf("%s: the log ends with %q", host, lines[max(0, len(lines)-3):])
		return
	}
	for i, line := range lines[:len(lines)-2] {
		if line != strconv.Itoa(i+1) {
			t.Errorf("%s: line %d is %q", host, i+1, line)
			return
		}
	}
}

// TestResumeWhileTheFirstLives holds that a run has one initiator.
func TestResumeWhileTheFirstLives(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	first := l.start(l.args("--json", "--", publicSelf, "onceonly")...)
	run := first.runID()
	first.awaitAnyOutput("h1")
	second := l.run("resume", run)
	second.wantCode(1)
	if got := second.stderr.String(); !strings.Contains(got, fmt.Sprintf("process %d on ", first.cmd.Process.Pid)) || !strings.Contains(got, run) {
		t.Errorf("the holder is not named: %s", got)
	}
	l.hosts[0].goOn(t)
	first.wantCode(0)
	l.hosts[0].wantOneStart(t)
	first.wantOutcome("h1", "ok")
	l.checkInitiator()
}
