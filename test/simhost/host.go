package simhost

import (
	"fmt"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/probe"
)

// Host is one simulated machine. All methods may be called from any goroutine. A host without connections and
// payloads has no goroutines; Close ends what there are.
type Host struct {
	opts Options
	tree *tree
	wg   sync.WaitGroup

	mu         sync.Mutex // guards everything below and every session; nothing blocks while it is held
	closed     bool
	faults     switches
	bootID     string
	lastPID    int32
	boots      int
	links      map[*link]struct{}
	accepted   int
	sessions   map[string]*session // by directory
	starts     int
	forwards   []forward // oldest first
	forwarded  chan struct{}
	unexpected []string
	signals    []int
	events     []Event
}

// Event is something that happened at a host.
type Event struct {
	At   time.Time
	Kind EventKind
	Text string
}

// EventKind is one word about an Event.
type EventKind string

// The kinds of events.
const (
	EventConnected  EventKind = "connected"
	EventLoggedIn   EventKind = "logged in"
	EventDropped    EventKind = "dropped"
	EventProbed     EventKind = "probed"
	EventSFTP       EventKind = "sftp"
	EventInstalled  EventKind = "installed"
	EventForwarded  EventKind = "forwarded"
	EventStarted    EventKind = "started"
	EventAttached   EventKind = "attached"
	EventEvicted    EventKind = "evicted"
	EventRefused    EventKind = "refused"
	EventSignalled  EventKind = "signalled"
	EventExited     EventKind = "exited"
	EventCleanedUp  EventKind = "cleaned up"
	EventRemoved    EventKind = "removed"
	EventUnexpected EventKind = "unexpected"
	EventRebooted   EventKind = "rebooted"
	EventShimKilled EventKind = "shim killed"
)

// maxEvents bounds what a host remembers; the oldest go first.
const maxEvents = 4096

// New makes a host. The caller closes it.
func New(o Options) *Host {
	if o.Signer == nil {
		o.Signer = DefaultHostKey()
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = 10
	}
	f := &o.Facts
	setDefault(&f.OS, "linux")
	setDefault(&f.Arch, "amd64")
	setDefault(&f.Kernel, "6.1.0-sim")
	setDefault(&f.User, "sim")
	setDefault(&f.Shell, "/bin/sh")
	if f.UID == 0 && f.User != "root" {
		f.UID = 1000
	}
	setDefault(&f.Home, "/home/"+f.User)
	setDefault(&f.Tools.SHA256, "sha256sum")
	if f.FreeBytes == 0 {
		f.FreeBytes = 10 << 30
	}
	h := &Host{opts: o, links: map[*link]struct{}{}, sessions: map[string]*session{}, forwarded: make(chan struct{}), lastPID: 1000}
	h.tree = newTree(f.UID, f.Home, func() bool { return h.fault(func(s switches) bool { return s.diskFull }) })
	h.bootID = f.BootID
	setDefault(&h.bootID, "00000000-0000-4000-8000-000000000001")
	return h
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// Name returns Options.Name.
func (h *Host) Name() string { return h.opts.Name }

// Close drops all connections, kills all payloads and waits until every goroutine of the host ended.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.Drop()
	h.killAll("the host was closed")
	h.wg.Wait()
	return nil
}

// Reboot drops all connections, ends all shims and payloads and changes the boot ID. /tmp is emptied, /var/tmp stays.
func (h *Host) Reboot() {
	h.Drop()
	h.killAll("the host was rebooted")
	h.mu.Lock()
	h.boots++
	h.bootID = fmt.Sprintf("00000000-0000-4000-8000-%012d", h.boots+1)
	h.mu.Unlock()
	h.tree.removeAll("/tmp")
	h.Mkdir("/tmp", 0o777|fs.ModeSticky, 0)
	h.event(EventRebooted, "")
}

// KillShim kills the shims, and with each its payload; their attaches end. The session directories stay.
func (h *Host) KillShim() {
	h.killAll("the shim was killed")
	h.event(EventShimKilled, "")
}

// Connections returns how many connections there are now, and how many there were in all.
func (h *Host) Connections() (now, total int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.links), h.accepted
}

// PayloadStarts returns how often a payload was started.
func (h *Host) PayloadStarts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.starts
}

// Unexpected returns every request that a host of this kind doesn't know: commands, channel types, shells.
func (h *Host) Unexpected() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.unexpected)
}

// Signals returns the signals that payloads got, in order.
func (h *Host) Signals() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.signals)
}

// Events returns what happened, oldest first, at most the newest 4096.
func (h *Host) Events() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// Files returns the file tree, sorted by path, with its directories.
func (h *Host) Files() []File { return h.tree.files() }

// PutFile plants a file, as something outside the initiator would. Its directory should exist.
func (h *Host) PutFile(path string, data []byte, mode fs.FileMode) { h.tree.put(path, data, mode) }

// Mkdir plants a directory of any owner.
func (h *Host) Mkdir(path string, mode fs.FileMode, uid int) {
	h.plant(path, node{mode: fs.ModeDir | mode, uid: uid})
}

// Symlink plants a symbolic link.
func (h *Host) Symlink(target, path string) {
	h.plant(path, node{mode: fs.ModeSymlink | 0o777, uid: h.opts.Facts.UID, target: target})
}

func (h *Host) plant(path string, n node) {
	h.tree.mu.Lock()
	defer h.tree.mu.Unlock()
	h.tree.nodes[path] = &n
}

// RemoveAll wipes a path, as somebody who cleans /var/tmp does. A session whose directory is gone lives on as a process.
func (h *Host) RemoveAll(path string) { h.tree.removeAll(path) }

// Session returns the session in a directory; it is false if no shim runs there.
func (h *Host) Session(dir string) (Session, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[dir]
	if s == nil {
		return Session{}, false
	}
	return s.snapshot(), true
}

// Sessions returns all sessions with a live shim, by directory.
func (h *Host) Sessions() []Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Session
	for _, s := range h.sessions {
		if !s.over() {
			out = append(out, s.snapshot())
		}
	}
	slices.SortFunc(out, func(a, b Session) int { return compare(a.Dir, b.Dir) })
	return out
}

func (h *Host) event(kind EventKind, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eventLocked(kind, text)
}

func (h *Host) eventLocked(kind EventKind, text string) {
	if len(h.events) >= maxEvents {
		h.events = slices.Delete(h.events, 0, maxEvents/4)
	}
	h.events = append(h.events, Event{time.Now(), kind, text})
}

func (h *Host) surprise(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unexpected = append(h.unexpected, text)
	h.eventLocked(EventUnexpected, text)
}

func (h *Host) liveLinks() []*link {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*link, 0, len(h.links))
	for l := range h.links {
		out = append(out, l)
	}
	return out
}

// accept serves a connection that it owns from now on. It returns false, and closes it, when the host is closed.
func (h *Host) accept(c net.Conn) bool {
	l := newLink(h, c)
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		_ = l.Close() // nobody uses it yet
		return false
	}
	h.links[l] = struct{}{}
	h.accepted++
	if h.faults.frozen {
		l.freeze()
	}
	h.eventLocked(EventConnected, "")
	h.wg.Add(1)
	h.mu.Unlock()
	go func() {
		defer h.wg.Done()
		h.serve(l)
		_ = l.Close() // the second Close of a lost connection has nothing to say
		h.mu.Lock()
		delete(h.links, l)
		h.mu.Unlock()
	}()
	return true
}

// facts answers a probe for a session, looked for below the candidate directories.
func (h *Host) facts(run, host, prefix string, bases []string) probe.Facts {
	f := h.opts.Facts
	noBase := f.Base == "-"
	if h.fault(func(s switches) bool { return s.diskFull }) {
		f.FreeBytes = 0
	}
	h.mu.Lock()
	f.BootID = h.bootID
	h.mu.Unlock()
	f.Base, f.BaseExists, f.Cached, f.Sessions = "", false, nil, nil
	dirs := []string{"/var/tmp", f.Home + "/.cache", "/tmp"}
	candidates := dirs
	if prefix != "" {
		dirs = append([]string{prefix}, dirs...)
		candidates = dirs[:1]
	}
	look := make([]string, 0, len(dirs)+len(bases))
	for _, dir := range dirs {
		look = append(look, probe.BaseDir(dir, f.UID))
	}
	for _, base := range bases {
		if !slices.Contains(look, base) {
			look = append(look, base)
		}
	}
	for _, base := range look {
		dir := probe.SessionDir(base, run, host)
		if state := h.sessionState(dir); state != probe.SessionNone {
			f.Sessions = append(f.Sessions, probe.Session{Base: base, Dir: dir, State: state})
		}
	}
	if noBase {
		return f
	}
	for _, dir := range candidates {
		base := probe.BaseDir(dir, f.UID)
		exists, reason := h.tree.base(dir, base)
		if reason != "" {
			f.Rejected = append(f.Rejected, probe.Rejected{Dir: dir, Reason: reason})
			continue
		}
		f.Base, f.BaseExists, f.Cached = base, exists, h.tree.cached(base)
		break
	}
	return f
}
