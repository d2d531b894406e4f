package transfer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// dial connects to a server; the connection is closed before the server goes.
func dial(t testing.TB, s *sshd.Server) *sshconn.Conn {
	t.Helper()
	auth, err := sshconn.NewAuth(sshconn.AuthOptions{Identities: []string{s.KeyFile}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sshconn.NewHostKeys(sshconn.HostKeyOptions{Files: []string{s.KnownHostsFile}})
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := sshconn.NewDialer(sshconn.Options{Auth: auth, HostKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialer.Dial(t.Context(), inventory.Host{Name: "web1", Addr: "127.0.0.1", Port: s.Port, User: s.User})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tempDir is short, to leave room for sockets.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mr")
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

func newSession(t testing.TB) Session {
	t.Helper()
	return Session{Base: probe.BaseDir(tempDir(t), os.Geteuid()), Run: "abc123", Host: "web1"}
}

// program makes a file that compresses well, or not at all, and opens it.
func program(t testing.TB, size int, packable bool) (*Blob, []byte) {
	t.Helper()
	data := bytes.Repeat([]byte("mgmt-remote\n"), size/12+1)[:size]
	if !packable {
		random := rand.NewChaCha8([32]byte{1})
		if _, err := random.Read(data); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "my program")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBlob(name, filepath.Base(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, data
}

// stage does steps 2 and 3 as the actor does.
func stage(ctx context.Context, conn Conn, s Session, r CopyRequest) (CopyResult, error) {
	client, err := Begin(ctx, conn)
	if err != nil {
		return CopyResult{}, err
	}
	if _, err := client.MakeSession(ctx, s); err != nil {
		return CopyResult{}, errors.Join(err, client.Close())
	}
	r.Base = s.Base
	result, err := client.Copy(ctx, r)
	if err := errors.Join(err, client.Close()); err != nil {
		return result, err
	}
	return result, Finish(ctx, conn, result.Pending)
}

// both runs a test on a server with SFTP, and on one where everything goes through a shell.
func both(t *testing.T, test func(t *testing.T, o sshd.Options)) {
	t.Helper()
	for name, o := range map[string]sshd.Options{"SFTP": {}, "shell": {NoSFTP: true}} {
		t.Run(name, func(t *testing.T) { test(t, o) })
	}
}

// private fails unless everything below dir is the user's alone.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if err == nil && d.IsDir() && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if strings.HasPrefix(d.Name(), tempPrefix) {
			t.Errorf("%s was left behind", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func same(t *testing.T, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s has %d bytes that are not the %d sent", name, len(got), len(want))
	}
}

func TestCopyTwice(t *testing.T) { both(t, testCopyTwice) }

func testCopyTwice(t *testing.T, o sshd.Options) {
	o.Config = []string{"MaxSessions 1"}
	server := sshd.Start(t, o)
	for name, tc := range map[string]struct{ packable, gzip, noCache bool }{
		"plain":          {true, false, false},
		"gzip":           {true, true, false},
		"gzip pays not":  {false, true, false},
		"no cache, gzip": {true, true, true},
		"no cache":       {true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, s := dial(t, server), newSession(t)
			blob, data := program(t, 3_000_000, tc.packable)
			var reports []int64
			request := CopyRequest{
				Blobs: []*Blob{blob}, Gzip: tc.gzip, NoCache: tc.noCache,
				Files:    []File{{Name: "session.json", Data: []byte("{}")}, {Name: "run.sh", Data: []byte("x"), Mode: 0o755}, {Name: "empty"}},
				Progress: func(sent, total int64) { reports = append(reports, sent, total) },
			}
			first, err := stage(t.Context(), conn, s, request)
			if err != nil {
				t.Fatal(err)
			}
			packed := tc.packable && tc.gzip
			if (packed && first.Sent >= blob.Size/10) || (!packed && first.Sent != blob.Size) || first.Skipped != 0 {
				t.Errorf("sent %d of %d, skipped %d", first.Sent, blob.Size, first.Skipped)
			}
			if n := len(reports); n < 2 || reports[n-1] != first.Sent || reports[n-2] != first.Sent {
				t.Errorf("progress %v, sent %d", reports, first.Sent)
			}
			dir := probe.SessionDir(s.Base, s.Run, s.Host)
			want := s.Base + "/cache/" + blob.SHA256 + "/my_program"
			if tc.noCache {
				want = dir + "/bin/my_program"
			}
			if first.Paths[blob.SHA256] != want {
				t.Errorf("path %q, want %q", first.Paths[blob.SHA256], want)
			}
			same(t, want, data)
			same(t, dir+"/session.json", []byte("{}"))
			if info, err := os.Stat(dir + "/run.sh"); err != nil || info.Mode() != 0o700 {
				t.Errorf("%v %v", info, err)
			}
			if info, err := os.Stat(want); err != nil || info.Mode() != 0o700 {
				t.Errorf("%v %v", info, err)
			}
			private(t, s.Base)

			facts, err := probe.Run(t.Context(), conn, probe.Request{Prefix: filepath.Dir(s.Base), Run: s.Run, Host: s.Host})
			if err != nil {
				t.Fatal(err)
			}
			if facts.Base != s.Base || facts.Session() != (probe.Session{Base: s.Base, Dir: dir, State: probe.SessionPrepared}) {
				t.Errorf("%+v", facts)
			}
			request.Cached = facts.Cached
			request.Files[0].Data = []byte(`{"changed":1}`)
			second, err := stage(t.Context(), conn, s, request)
			if err != nil {
				t.Fatal(err)
			}
			if second.Sent != 0 || second.Skipped != blob.Size || len(second.Pending) != 0 || second.Paths[blob.SHA256] != want {
				t.Errorf("second copy: %+v", second)
			}
			same(t, dir+"/session.json", []byte(`{"changed":1}`))

			if err := Remove(t.Context(), conn, s); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(s.Base); tc.noCache != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("base after removal: %v", err)
			}
			if _, err := os.Lstat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("run's directory after removal: %v", err)
			}
			if err := Remove(t.Context(), conn, s); err != nil {
				t.Errorf("second removal: %v", err)
			}
		})
	}
}

// TestBrokenUpload cuts the connection in the middle of an upload and does the same again.
func TestBrokenUpload(t *testing.T) { both(t, testBrokenUpload) }

func testBrokenUpload(t *testing.T, o sshd.Options) {
	server := sshd.Start(t, o)
	s := newSession(t)
	blob, data := program(t, 20_000_000, false)
	var once sync.Once
	_, err := stage(t.Context(), dial(t, server), s, CopyRequest{Blobs: []*Blob{blob}, Progress: func(sent, _ int64) {
		if sent > 5_000_000 {
			once.Do(func() { server.KillSessions() })
		}
	}})
	if fault.KindOf(err) != fault.Lost {
		t.Fatalf("%v", err)
	}
	dir := probe.SessionDir(s.Base, s.Run, s.Host)
	if left, err := filepath.Glob(dir + "/" + tempPrefix + "*"); err != nil || len(left) != 1 && !o.NoSFTP { // a shell that lives longer than its connection removes it
		t.Fatalf("the upload was to break half way: %v %v", left, err)
	}
	result, err := stage(t.Context(), dial(t, server), s, CopyRequest{Blobs: []*Blob{blob}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, result.Paths[blob.SHA256], data)
	private(t, s.Base)
}

func TestCancelEndsACopy(t *testing.T) { both(t, testCancelEndsACopy) }

func testCancelEndsACopy(t *testing.T, o sshd.Options) {
	server := sshd.Start(t, o)
	s := newSession(t)
	blob, _ := program(t, 20_000_000, false)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := stage(ctx, dial(t, server), s, CopyRequest{Blobs: []*Blob{blob}, Progress: func(sent, _ int64) {
		if sent > 2_000_000 {
			cancel()
		}
	}})
	if fault.KindOf(err) != fault.Canceled {
		t.Fatalf("%v", err)
	}
}

func TestManyCopiesOfOneBlob(t *testing.T) {
	server := sshd.Start(t, sshd.Options{Config: []string{"MaxStartups 100"}})
	base := newSession(t).Base
	blob, data := program(t, 2_000_000, true)
	var group sync.WaitGroup
	for i := range 20 {
		s := Session{Base: base, Run: "run" + string(rune('a'+i)), Host: "web1"}
		conn := dial(t, server)
		group.Go(func() {
			if _, err := stage(t.Context(), conn, s, CopyRequest{Blobs: []*Blob{blob}, Gzip: true}); err != nil {
				t.Errorf("%s: %v", s.Run, err)
			}
		})
	}
	group.Wait()
	same(t, base+"/cache/"+blob.Key(), data)
	private(t, base)
	if blob.packed != 1 {
		t.Errorf("compressed %d times", blob.packed)
	}
}

func TestCorruptedUploadIsRefused(t *testing.T) { both(t, testCorruptedUploadIsRefused) }

func testCorruptedUploadIsRefused(t *testing.T, o sshd.Options) {
	server := sshd.Start(t, o)
	conn, s := dial(t, server), newSession(t)
	for _, packed := range []bool{false, true} {
		blob, _ := program(t, 100_000, packed)
		client, err := Begin(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.MakeSession(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		result, err := client.Copy(t.Context(), CopyRequest{Base: s.Base, Blobs: []*Blob{blob}, Gzip: packed})
		if err := errors.Join(err, client.Close()); err != nil {
			t.Fatal(err)
		}
		if result.Pending[0].Gzip != packed {
			t.Fatalf("%+v", result)
		}
		f, err := os.OpenFile(result.Pending[0].Temp, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xff, 0xfe}, 90); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		err = Finish(t.Context(), conn, result.Pending)
		if fault.KindOf(err) != fault.Environment {
			t.Errorf("%v", err)
		}
		if _, err := os.Stat(result.Pending[0].Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("installed in spite of its hash: %v", err)
		}
		private(t, s.Base)
	}
}

func TestHostileBase(t *testing.T) { both(t, testHostileBase) }

func testHostileBase(t *testing.T, o sshd.Options) {
	if os.Geteuid() != 0 {
		t.Fatal("this test must run as root: it changes owners")
	}
	server := sshd.Start(t, o)
	conn := dial(t, server)
	for name, tc := range map[string]struct {
		hostile func(base string) error
		want    string
	}{
		"symlink":   {func(b string) error { return os.Symlink("/tmp", b) }, "symbolic link"},
		"file":      {func(b string) error { return os.WriteFile(b, nil, 0o700) }, "not a directory"},
		"mode":      {func(b string) error { return errors.Join(os.Mkdir(b, 0o700), os.Chmod(b, 0o750)) }, "others can enter"},
		"owner":     {func(b string) error { return errors.Join(os.Mkdir(b, 0o700), os.Chown(b, 12345, 0)) }, "belongs to uid 12345"},
		"no parent": {func(b string) error { return os.Remove(filepath.Dir(b)) }, "file does not exist|No such file or directory"},
		"run is a link": {func(b string) error {
			return errors.Join(os.Mkdir(b, 0o700), os.Symlink("/tmp", b+"/abc123"))
		}, "no directory of this user|abc123 is a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			if err := tc.hostile(s.Base); err != nil {
				t.Fatal(err)
			}
			_, err := stage(t.Context(), conn, s, CopyRequest{})
			if fault.KindOf(err) != fault.Environment || !regexp.MustCompile(tc.want).MatchString(err.Error()) || !strings.HasPrefix(err.Error(), "web1: make directory: ") {
				t.Errorf("%v", err)
			}
			if err := Remove(t.Context(), conn, s); strings.Contains(name, "link") && fault.KindOf(err) != fault.Environment {
				t.Errorf("removal: %v", err)
			}
		})
	}
}

// TestModesAreMended: a copy that broke between making a directory and setting its mode.
func TestModesAreMended(t *testing.T) { both(t, testModesAreMended) }

func testModesAreMended(t *testing.T, o sshd.Options) {
	server := sshd.Start(t, o)
	s := newSession(t)
	dir := probe.SessionDir(s.Base, s.Run, s.Host)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t.Context(), dial(t, server), s, CopyRequest{}); err != nil {
		t.Fatal(err)
	}
	private(t, s.Base)
}

func TestNoSFTP(t *testing.T) {
	server := sshd.Start(t, sshd.Options{NoSFTP: true})
	_, err := Open(t.Context(), dial(t, server))
	if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "Subsystem sftp") || !errors.Is(err, ErrNoSFTP) {
		t.Fatalf("%v", err)
	}
}

func TestRemoveLeavesOthersAndLinksAlone(t *testing.T) {
	server := sshd.Start(t, sshd.Options{})
	conn, s := dial(t, server), newSession(t)
	dir, outside := probe.SessionDir(s.Base, s.Run, s.Host), tempDir(t)
	for _, name := range []string{dir + "/log.1", s.Base + "/abc123/web2/x", outside + "/precious"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), conn, s); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	same(t, outside+"/precious", []byte("x"))
	same(t, s.Base+"/abc123/web2/x", []byte("x"))
}

func TestRemoveRefuses(t *testing.T) {
	for _, s := range []Session{
		{Base: "/", Run: "abc123", Host: "web1"},
		{Base: "/tmp", Run: "abc123", Host: "web1"},
		{Base: "/tmp/mgmt-remote-0", Run: "..", Host: "web1"},
		{Base: "/tmp/mgmt-remote-0", Run: "", Host: "web1"},
		{Base: "/tmp/mgmt-remote-0", Run: "abc123", Host: ".."},
		{Base: "/tmp/mgmt-remote-0", Run: "abc123", Host: ""},
		{Base: "/tmp/x/../mgmt-remote-0", Run: "abc123", Host: "web1"},
		{Base: "/tmp/$(id)/mgmt-remote-0", Run: "abc123", Host: "web1"},
	} {
		if err := Remove(t.Context(), nil, s); fault.KindOf(err) != fault.Bug {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
