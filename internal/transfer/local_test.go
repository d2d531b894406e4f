package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// shell runs the scripts on this machine with some shell.
type shell []string

func (s shell) Subsystem(context.Context, string) (*sshconn.Channel, error) {
	return nil, errors.New("only commands here")
}

func (s shell) Exec(ctx context.Context, e sshconn.Exec) error {
	args := append(append([]string{}, s...), strings.Fields(e.Command)[1:]...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, e.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &sshconn.ExitError{Code: exit.ExitCode()}
	}
	return err
}

var shells = map[string]shell{
	"dash": {"dash"}, "bash": {"bash"}, "busybox": {"busybox", "sh"},
	"busybox tools": {"env", "-i", "busybox", "sh"},
}

func TestInstallInEveryShell(t *testing.T) {
	for name, sh := range shells {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			dir := probe.SessionDir(s.Base, s.Run, s.Host)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			var pending []Install
			var want [][]byte
			for i, gzipped := range []bool{false, true} {
				blob, data := program(t, 50_000+i, true)
				r, packed, err := blob.wire(t.Context(), gzipped)
				if err != nil || packed != gzipped {
					t.Fatalf("%v %v", packed, err)
				}
				bytesOf, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				temp := tempName(dir)
				if err := os.WriteFile(temp, bytesOf, 0o600); err != nil {
					t.Fatal(err)
				}
				pending = append(pending, Install{Temp: temp, Path: s.Base + "/cache/" + blob.Key(), SHA256: blob.SHA256, Gzip: packed})
				want = append(want, data)
			}
			if err := Finish(t.Context(), sh, pending); err != nil {
				t.Fatal(err)
			}
			for i := range pending {
				same(t, pending[i].Path, want[i])
			}
			private(t, s.Base)
			// Gone temporary files are an error of that file, with what the host said.
			err := Finish(t.Context(), sh, pending[1:])
			if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "can't be put into place") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRemoveRefusesALiveSession(t *testing.T) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	start := strings.Fields(string(rest))[19]
	for name, sh := range shells {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			dir := probe.SessionDir(s.Base, s.Run, s.Host)
			record := func(start string) {
				t.Helper()
				text := `{"pid":` + strconv.Itoa(os.Getpid()) + `,"start":"` + start + `","boot_id":"x","payload":{"pid":1,"start":"1"}}` + "\n"
				if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(dir+"/"+probe.RecordFile, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			record(start)
			if err := Remove(t.Context(), sh, s); fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
				t.Fatalf("%v", err)
			}
			if _, err := os.Stat(dir); err != nil {
				t.Fatal(err)
			}
			record("1")
			if err := Remove(t.Context(), sh, s); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(s.Base); !os.IsNotExist(err) {
				t.Fatalf("%v", err)
			}
		})
	}
}

// TestRemoveTakesABegunBase holds that a stop in the middle of step 2 leaves nothing: neither the base that has no name yet nor, where there
// is one, anything that somebody put into it.
func TestRemoveTakesABegunBase(t *testing.T) {
	for name, sh := range shells {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			begun := beginning(s)
			if err := os.MkdirAll(begun, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := Remove(t.Context(), sh, s); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(begun); !os.IsNotExist(err) {
				t.Errorf("it is still there: %v", err)
			}
			if err := errors.Join(os.MkdirAll(begun, 0o700), os.WriteFile(begun+"/x", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := Remove(t.Context(), sh, s); err != nil {
				t.Fatal(err)
			}
			same(t, begun+"/x", nil)
		})
	}
}

// pipe is a channel over a socket pair or a pipe.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error { return p.Close() }
func (p pipe) Wait() error       { return nil }

// TestStalledServer: the server takes nothing and says nothing, and the link to it is not known to be dead.
func TestStalledServer(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := newClient(ctx, pipe{near}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
}

// TestPlainServer: pkg/sftp's server knows fewer extensions than OpenSSH's.
func TestPlainServer(t *testing.T) {
	near, far := net.Pipe()
	server, err := sftp.NewServer(far)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	client, err := newClient(t.Context(), pipe{near})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(t)
	if err := os.RemoveAll(s.Base); err != nil {
		t.Fatal(err)
	}
	// An initiator of this run died before the base had its name.
	begun := s.Base + "." + s.Run + "." + s.Host
	if err := os.Mkdir(begun, 0o755); err != nil {
		t.Fatal(err)
	}
	blob, data := program(t, 1_000_000, false)
	for range 2 {
		dir, err := client.MakeSession(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		result, err := client.Copy(t.Context(), CopyRequest{Base: s.Base, Blobs: []*Blob{blob}, Files: []File{{Name: "graph.yaml", Data: []byte("x")}}})
		if err != nil {
			t.Fatal(err)
		}
		same(t, dir+"/graph.yaml", []byte("x"))
		if err := Finish(t.Context(), shells["dash"], result.Pending); err != nil {
			t.Fatal(err)
		}
		same(t, result.Paths[blob.SHA256], data)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("server: %v", err)
	}
	private(t, s.Base)
	if _, err := os.Lstat(begun); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", begun, err)
	}
}

func TestBlob(t *testing.T) {
	for name, want := range map[string]string{"a b": "a_b", "../x": "x", ".hidden": "_hidden", "-rf": "_rf", "": "_", "ü": "_", "ok-1.2_x": "ok-1.2_x"} {
		if got := safeName(name); got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
	if _, err := OpenBlob(t.TempDir(), "x"); err == nil {
		t.Error("a directory was opened")
	}
	if _, err := OpenBlob(filepath.Join(t.TempDir(), "none"), "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if pays(91, 100) || !pays(90, 100) || !pays(0, 0) {
		t.Error("compression pays from 90 % down")
	}
	blob, _ := program(t, 1000, true)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := blob.wire(canceled, true); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, packed, err := blob.wire(t.Context(), true); err != nil || !packed {
		t.Errorf("a canceled compression is made again: %v %v", packed, err)
	}
}

func BenchmarkUpload(b *testing.B) {
	server := sshd.Start(b, sshd.Options{})
	conn := dial(b, server)
	const size = 64 << 20
	data := bytes.NewReader(make([]byte, size))
	for name, options := range map[string][]sftp.ClientOption{
		"library default": nil,
		"ours": {
			sftp.MaxPacketUnchecked(maxPacket), sftp.MaxConcurrentRequestsPerFile(inFlight), sftp.UseConcurrentWrites(true),
		},
	} {
		b.Run(name, func(b *testing.B) {
			ch, err := conn.Subsystem(b.Context(), "sftp")
			if err != nil {
				b.Fatal(err)
			}
			l := newLink(ch)
			client, err := sftp.NewClientPipe(l, l, options...)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			for b.Loop() {
				if _, err := data.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				f, err := client.Create("/dev/null")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := f.ReadFrom(data); err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
			if err := client.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
