package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// group is a process group within a session.
type group struct{ pgid, session int }

// ended is how a child ended.
type ended struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
	err    error // it could not be waited for
}

// payload is one process that a session is for, and its process group.
type payload struct {
	process
	group  group
	reaper *reaper
	done   chan struct{} // closed when the process was reaped; exit is set before

	mu   sync.Mutex // held to signal and to forget the process ID: it is free for others once reaped
	gone bool
	exit wire.Exit
}

// payloadConfig is what startPayload needs. The files stay the caller's.
type payloadConfig struct {
	argv, env      []string
	dir            string
	stdout, stderr *os.File
	reaper         *reaper
}

// startPayload starts the process in a group of its own. The error says in words what is wrong with the program.
func startPayload(cfg payloadConfig) (*payload, error) {
	if fi, err := os.Stat(cfg.dir); err != nil || !fi.IsDir() {
		return nil, fmt.Errorf("the working directory %s is not there", cfg.dir)
	}
	program, err := lookPath(cfg.argv[0], cfg.env)
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close() //nolint:errcheck // holds nothing
	attr := &syscall.ProcAttr{
		Dir: cfg.dir, Env: cfg.env, Sys: payloadAttr(),
		Files: []uintptr{null.Fd(), cfg.stdout.Fd(), cfg.stderr.Fd()},
	}
	p := &payload{reaper: cfg.reaper, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		lockThread()
		pid, end, err := cfg.reaper.start(func() (int, error) { return syscall.ForkExec(program, cfg.argv, attr) })
		if err != nil {
			started <- explain(program, err)
			return
		}
		p.process = process{PID: pid, Start: startOf(pid)}
		p.group = group{pgid: pid, session: ownSession()}
		started <- nil
		p.record(<-end)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *payload) record(e ended) {
	p.mu.Lock()
	p.gone = true
	p.exit = wire.Exit{
		Code:   int32(e.status.ExitStatus()),
		UserUs: time.Duration(e.usage.Utime.Nano()).Microseconds(), SystemUs: time.Duration(e.usage.Stime.Nano()).Microseconds(),
		MaxRssKib: maxRSSKiB(&e.usage),
	}
	if e.status.Signaled() {
		p.exit.Signal = int32(e.status.Signal())
	}
	if e.err != nil {
		p.exit.Code, p.exit.Error = -1, e.err.Error()
	}
	p.mu.Unlock()
	close(p.done)
}

func (p *payload) pid() int { return p.PID }

// endRest ends what is left of the payload when its session goes away or its next run begins: of its group, and of the
// groups that its descendants made for themselves. What left the terminal session (a daemon) is none of ours any more.
func (p *payload) endRest(ctx context.Context, stages ...stage) error {
	err := p.group.end(ctx, stages...)
	if p.reaper.alone() {
		return err
	}
	return errors.Join(err, p.group.sessionOnly().end(ctx, stages...))
}

// sessionOnly stands for all groups of the session; on systems that can't tell it stands for none.
func (g group) sessionOnly() group { return group{session: g.session} }

// signal sends sig to the group while its leader lives; a payload that ended is not signalled.
func (p *payload) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	if err := unix.Kill(-p.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %v to process group %d: %w", sig, p.PID, err)
	}
	return nil
}

// stage is a signal and how long to wait for its effect.
type stage struct {
	signal syscall.Signal
	wait   time.Duration
}

// killWait is how long a group gets to vanish after SIGKILL; only a process that hangs in the kernel needs it.
const killWait = 5 * time.Second

// end goes through the stages until nobody of the group is left, or ctx ends. A payload whose leader ended before gets SIGKILL for
// what it left in its group.
func (p *payload) end(ctx context.Context, stages ...stage) error {
	select {
	case <-p.done:
		return p.group.end(ctx, stage{syscall.SIGKILL, killWait})
	default:
	}
	for _, st := range stages {
		if err := errors.Join(p.signal(st.signal), p.signalRest(st.signal)); err != nil {
			return err
		}
		over := time.After(st.wait)
		select {
		case <-p.done:
			if gone, err := p.group.wait(ctx, over); gone || err != nil {
				return err
			}
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.group.verdict()
}

// signalRest reaches the rest of the group once its leader has ended.
func (p *payload) signalRest(sig syscall.Signal) error {
	select {
	case <-p.done:
		return p.group.signal(sig)
	default:
		return nil
	}
}

// end does the same for a group whose leader isn't ours to wait for.
func (g group) end(ctx context.Context, stages ...stage) error {
	for _, st := range stages {
		if err := g.signal(st.signal); err != nil {
			return err
		}
		if gone, err := g.wait(ctx, time.After(st.wait)); gone || err != nil {
			return err
		}
	}
	return g.verdict()
}

// wait returns true as soon as nobody is left, false when the time is over. The kernel tells no one of the end of somebody
// else's child, so it looks again and again, ever less often.
func (g group) wait(ctx context.Context, over <-chan time.Time) (bool, error) {
	for pause := 2 * time.Millisecond; g.alive(); pause = min(pause*2, 250*time.Millisecond) {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-over:
			return false, nil
		case <-time.After(pause):
		}
	}
	return true, nil
}

func (g group) verdict() error {
	if g.alive() {
		return fmt.Errorf("process group %d is still there after SIGKILL", g.pgid)
	}
	return nil
}

// lookPath finds the program as a shell would, in the PATH that the payload gets.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // never run what happens to lie in a working directory
		}
		file := filepath.Join(dir, name)
		if fi, err := os.Stat(file); err == nil && !fi.IsDir() && fi.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no program %q in PATH (%s)", name, path)
}

// explain says what an error of exec means for the program.
func explain(program string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("cannot run %s: the file, or the interpreter it names, does not exist", program)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot run %s: it is not executable, or its file system is mounted noexec", program)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("cannot run %s: it is built for another system, or it is a script without a #! line", program)
	}
	return fmt.Errorf("cannot run %s: %w", program, err)
}

// mergeEnv joins environments; the last value of a name counts. The order is that of the names.
func mergeEnv(envs ...[]string) []string {
	values := map[string]string{}
	for _, env := range envs {
		for _, kv := range env {
			if name, _, ok := strings.Cut(kv, "="); ok && name != "" {
				values[name] = kv
			}
		}
	}
	merged := make([]string, 0, len(values))
	for _, kv := range values {
		merged = append(merged, kv)
	}
	slices.Sort(merged)
	return merged
}

func ownSession() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return 0
	}
	return sid
}
