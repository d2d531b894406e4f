package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// initiator is a Handler that remembers what it was asked.
type initiator struct {
	mu    sync.Mutex
	asked []string
}

func (i *initiator) note(format string, args ...any) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = append(i.asked, fmt.Sprintf(format, args...))
	return nil
}

func (i *initiator) Status(context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{"hosts":3}`), i.note("status")
}
func (i *initiator) Stop(level int) error { return i.note("stop %d", level) }
func (i *initiator) Retry(host string) error {
	if host == "nobody" {
		return errors.New("there is no host nobody")
	}
	return i.note("retry %q", host)
}
func (i *initiator) Pause() error           { return i.note("pause") }
func (i *initiator) Continue() error        { return i.note("continue") }
func (i *initiator) Limit(n int) error      { return i.note("limit %d", n) }
func (i *initiator) Drop(host string) error { return i.note("drop %q", host) }
func (i *initiator) Leave() error           { return i.note("leave") }

func serve(t *testing.T, dir string, h Handler, snapshot ...string) *Server {
	t.Helper()
	s, err := Listen(dir, h, func() [][]byte {
		var lines [][]byte
		for _, line := range snapshot {
			lines = append(lines, []byte(line+"\n"))
		}
		return lines
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(s *Server, line string) {
	s.Publish(func() {}, func() ([]byte, error) { return []byte(line), nil })
}

func shut(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestRequests(t *testing.T) {
	dir, h := shortDir(t), &initiator{}
	s := serve(t, dir, h)
	status, err := Ask(t.Context(), dir, Request{Op: OpStatus})
	if err != nil || string(status) != `{"hosts":3}` {
		t.Errorf("%s, %v", status, err)
	}
	for _, r := range []Request{{Op: OpStop, Level: 2}, {Op: OpRetry}, {Op: OpRetry, Host: "h1"}, {Op: OpPause}, {Op: OpContinue}, {Op: OpLimit, Limit: 3}, {Op: OpDrop, Host: "h2"}, {Op: OpLeave}} {
		if _, err := Ask(t.Context(), dir, r); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if want := []string{"status", "stop 2", `retry ""`, `retry "h1"`, "pause", "continue", "limit 3", `drop "h2"`, "leave"}; !slices.Equal(h.asked, want) {
		t.Errorf("asked for %q, want %q", h.asked, want)
	}
	for want, r := range map[string]Request{"no host nobody": {Op: OpRetry, Host: "nobody"}, `unknown request "dance"`: {Op: "dance"}} {
		if _, err := Ask(t.Context(), dir, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	st, err := os.Lstat(filepath.Join(dir, SocketName))
	if err != nil || st.Mode().Type() != fs.ModeSocket {
		t.Errorf("%v, %v", st, err)
	}
	shut(t, s)
	if _, err := Ask(t.Context(), dir, Request{Op: OpStatus}); !errors.Is(err, ErrNobody) {
		t.Errorf("after the end: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestEvents(t *testing.T) {
	dir := shortDir(t)
	s := serve(t, dir, &initiator{}, `{"n":0}`)
	var got []string
	first := make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- Follow(t.Context(), dir, func(line []byte, past bool) error {
			if got = append(got, string(line)); len(got) == 1 {
				close(first)
			}
			if past != (len(got) == 1) {
				t.Errorf("line %d: past %v", len(got), past)
			}
			return nil
		})
	}()
	<-first
	want := []string{`{"n":0}`}
	for i := range 100 {
		line := fmt.Sprintf(`{"n":%d}`, i+1)
		want = append(want, line)
		publish(s, line+"\n")
	}
	s.Publish(func() {}, func() ([]byte, error) { return nil, errors.New("can't be said") })
	shut(t, s)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// A follower that reads nothing must not hold up the run; it is let go, and the end of the server is bounded by it no more.
func TestSlowFollowerIsLetGo(t *testing.T) {
	dir := shortDir(t)
	s := serve(t, dir, &initiator{})
	conn, lines, err := open(t.Context(), dir, Request{Op: OpEvents})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lines.first(); err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 1000) + "\n"
	followers := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.followers)
	}
	for n := 0; followers() > 0; n++ {
		if n > 4*backlog {
			t.Fatal("the follower is still there")
		}
		publish(s, line)
	}
	_ = conn.Close()
	shut(t, s)
}

func TestFollowerGoesAway(t *testing.T) {
	dir := shortDir(t)
	s := serve(t, dir, &initiator{}, "{}")
	defer shut(t, s)
	stop := errors.New("enough")
	if err := Follow(t.Context(), dir, func([]byte, bool) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Follow(ctx, dir, func([]byte, bool) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What an initiator that was killed left behind is in nobody's way.
func TestLeftSocketIsReplaced(t *testing.T) {
	for _, dir := range []string{shortDir(t), filepath.Join(shortDir(t), strings.Repeat("long/", 25))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", shortDir(t))
		dead := serve(t, dir, &initiator{})
		dead.undo = func() error { return nil }
		dead.listener.(*net.UnixListener).SetUnlinkOnClose(false)
		shut(t, dead)
		if _, err := Ask(t.Context(), dir, Request{Op: OpStatus}); !errors.Is(err, ErrNobody) {
			t.Errorf("%s: nobody listens, but %v", dir, err)
		}
		s := serve(t, dir, &initiator{})
		if _, err := Ask(t.Context(), dir, Request{Op: OpStatus}); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		shut(t, s)
		for _, d := range []string{dir, os.Getenv("TMPDIR")} {
			if left, err := os.ReadDir(d); err != nil || len(left) != 0 {
				t.Errorf("%s: left: %v, %v", d, left, err)
			}
		}
	}
}

func TestNonsense(t *testing.T) {
	dir := shortDir(t)
	s := serve(t, dir, &initiator{})
	defer shut(t, s)
	for _, text := range []string{"hello\n", strings.Repeat("x", 10_000) + "\n", ""} {
		conn, err := net.Dial("unix", filepath.Join(dir, SocketName))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(text)) // the server may hang up in the middle
		_ = conn.(*net.UnixConn).CloseWrite()
		buf := make([]byte, 1000)
		n, _ := conn.Read(buf)
		if strings.Contains(string(buf[:n]), `"ok":true`) {
			t.Errorf("%.20q was answered with %s", text, buf[:n])
		}
		_ = conn.Close()
	}
}
