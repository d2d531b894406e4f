package simhost

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/internal/wire/mux"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const (
	base   = "/var/tmp/mgmt-remote-1000"
	dir    = base + "/run1/h1"
	shim   = base + "/bin/shim"
	marker = "mgmt-remote-MARKER"
)

var clientKey = newKey()

// inBubble runs a test with one host inside a synctest bubble and closes the host in the end.
func inBubble(t *testing.T, o Options, test func(t *testing.T, h *Host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Name = "h1"
		h := New(o)
		defer func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, h)
	})
}

func dialWith(h *Host, key ssh.PublicKey) (*ssh.Client, error) {
	c, err := h.NetDial(context.Background())
	if err != nil {
		return nil, err
	}
	sc, chans, reqs, err := ssh.NewClientConn(c, "h1:22", &ssh.ClientConfig{
		// The default, mlkem768x25519, costs a thousand handshakes under the race detector most of a minute.
		Config: ssh.Config{KeyExchanges: []string{"curve25519-sha256"}},
		User:   "sim", Auth: []ssh.AuthMethod{ssh.PublicKeys(clientKey)}, HostKeyCallback: ssh.FixedHostKey(key),
	})
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return ssh.NewClient(sc, chans, reqs), nil
}

func dial(t *testing.T, h *Host) *ssh.Client {
	t.Helper()
	c, err := dialWith(h, DefaultHostKey().PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// run executes a command with a script and returns its output and exit status.
func run(t *testing.T, c *ssh.Client, command, script string) (string, int) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Stdin = strings.NewReader(script)
	out, err := s.Output(command)
	var exit *ssh.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return string(out), exit.ExitStatus()
	}
	return string(out), 0
}

func doProbe(t *testing.T, c *ssh.Client) probe.Facts {
	t.Helper()
	out, code := run(t, c, probe.Command, "marker=mrabcdefgh\nprefix=''\ndirs='/var/tmp ~ /tmp'\nbases=''\nrun=run1\nhost=h1\nshort=h1\necho x\n")
	if code != 0 {
		t.Fatalf("probe: exit %d", code)
	}
	facts, err := probe.Parse("mrabcdefgh", []byte(out))
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// prepare plants what steps 2 and 3 leave.
func prepare(t *testing.T, h *Host, token string) {
	t.Helper()
	spec, err := json.Marshal(wire.Spec{Version: 1, Run: "run1", Host: "h1", Token: token, Nonce: "n1", Argv: []string{"x"}, Endpoint: wire.EndpointUnix})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{base, base + "/bin", base + "/run1", dir} {
		h.Mkdir(d, 0o700, 1000)
	}
	h.PutFile(shim, nil, 0o700)
	h.PutFile(dir+"/"+wire.SpecFile, spec, 0o600)
}

// peer is the initiator's end of an attach.
type peer struct {
	*wire.Conn
	t *testing.T
}

type channel struct {
	io.Reader
	io.WriteCloser
	session *ssh.Session
}

func (c channel) Close() error { return c.session.Close() }

func open(t *testing.T, c *ssh.Client, command string) channel {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(command); err != nil {
		t.Fatal(err)
	}
	return channel{out, in, s}
}

func attach(t *testing.T, c *ssh.Client, verb string, hello *wire.Hello) (peer, *wire.Frame) {
	t.Helper()
	conn := wire.NewConn(open(t, c, shim+" "+verb+" "+dir+" "+marker))
	if err := conn.SkipTo(marker, wire.MaxNoise); err != nil {
		t.Fatal(err)
	}
	p := peer{conn, t}
	hello.MinVersion, hello.MaxVersion = wire.MinVersion, wire.Version
	p.send(&wire.Frame{Kind: &wire.Frame_Hello{Hello: hello}})
	return p, p.recv()
}

func (p peer) send(f *wire.Frame) {
	p.t.Helper()
	if err := p.Send(f); err != nil {
		p.t.Fatal(err)
	}
}

func (p peer) recv() *wire.Frame {
	p.t.Helper()
	f, err := p.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p peer) credit(n uint64) {
	p.send(&wire.Frame{Kind: &wire.Frame_Credit{Credit: &wire.Credit{Limit: n}}})
}

func (p peer) cleanUp() {
	p.send(&wire.Frame{Kind: &wire.Frame_AckExit{AckExit: &wire.AckExit{CleanUp: true}}})
}

func TestProbeTellsFactsCacheAndSession(t *testing.T) {
	inBubble(t, Options{Noise: "motd\n"}, func(t *testing.T, h *Host) {
		c := dial(t, h)
		f := doProbe(t, c)
		if f.Base != base || f.BaseExists || f.OS != "linux" || f.UID != 1000 || len(f.Sessions) != 0 {
			t.Errorf("fresh: %+v", f)
		}
		prepare(t, h, "tok")
		sum := strings.Repeat("ab", 32)
		h.Mkdir(base+"/cache", 0o700, 1000)
		h.Mkdir(base+"/cache/"+sum, 0o700, 1000)
		h.PutFile(base+"/cache/"+sum+"/shim", nil, 0o700)
		f = doProbe(t, c)
		if !f.BaseExists || !slices.Equal(f.Cached, []string{sum + "/shim"}) || f.Session().State != probe.SessionPrepared {
			t.Errorf("prepared: %+v", f)
		}
		_, welcome := attach(t, c, "start", &wire.Hello{Token: "tok"})
		if welcome.GetWelcome() == nil {
			t.Fatalf("got %v", welcome)
		}
		if s := doProbe(t, c).Session(); s.State != probe.SessionLive || s.Dir != dir {
			t.Errorf("live: %+v", s)
		}
		before := f.BootID
		h.Reboot()
		c = dial(t, h)
		if f = doProbe(t, c); f.Session().State != probe.SessionStarted || f.BootID == before {
			t.Errorf("after the reboot: %+v", f)
		}
		h.Mkdir(base, 0o700, 4711)
		if f = doProbe(t, c); f.Base != "/tmp/mgmt-remote-1000" || len(f.Rejected) != 2 {
			t.Errorf("a foreign base and no ~/.cache: %+v", f)
		}
	})
}

func TestCopyInstallsAndVerifies(t *testing.T) {
	blob := bytes.Repeat([]byte("program "), 50_000)
	sum := sha256.Sum256(blob)
	sha := hex.EncodeToString(sum[:])
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(blob); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	inBubble(t, Options{}, func(t *testing.T, h *Host) {
		c := dial(t, h)
		f, err := sftp.NewClient(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{base, base + "/run1", dir} {
			if err := errors.Join(f.Mkdir(d), f.Chmod(d, 0o700)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Mkdir(dir); err == nil {
			t.Error("a second mkdir succeeded")
		}
		if st, err := f.Lstat(dir); err != nil || !st.IsDir() || st.Mode().Perm() != 0o700 || st.Sys().(*sftp.FileStat).UID != 1000 {
			t.Errorf("stat: %v, %v", st, err)
		}
		upload := func(name string, data []byte) {
			t.Helper()
			w, err := f.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.ReadFromWithConcurrency(bytes.NewReader(data), 4); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		upload(dir+"/.up-1", packed.Bytes())
		upload(dir+"/.up-2", blob[1:])
		upload(dir+"/.up-3", []byte("graph"))
		h.PutFile(dir+"/graph.yaml", []byte("old"), 0o600)
		if err := f.Rename(dir+"/.up-3", dir+"/graph.yaml"); err == nil {
			t.Error("a plain rename replaced a file")
		}
		if err := f.PosixRename(dir+"/.up-3", dir+"/graph.yaml"); err != nil {
			t.Error(err)
		}
		h.DiskFull(true)
		if w, err := f.Create(dir + "/full"); err != nil {
			t.Error(err)
		} else if _, err := w.Write([]byte("x")); err == nil {
			t.Error("a full disk took a byte")
		}
		h.DiskFull(false)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		target := base + "/cache/" + sha + "/prog"
		out, code := run(t, c, transfer.InstallCommand, "{\ninstall() {\n:\n}\nmain() {\n"+
			"install "+dir+"/.up-1 "+target+" "+sha+" gzip\n"+
			"install "+dir+"/.up-2 "+dir+"/bin/prog "+sha+" plain\n}\nprintf '\\nmrx\\n'\nmain </dev/null\necho mrx\nexit\n}\n")
		if code != 0 || out != "\nmrx\nok\nhash\nmrx\n" {
			t.Errorf("install: exit %d, %q", code, out)
		}
		if data, err := h.tree.read(target); err != nil || !bytes.Equal(data, blob) {
			t.Errorf("installed %d bytes, %v", len(data), err)
		}
		for _, file := range h.Files() {
			if strings.HasPrefix(path.Base(file.Path), ".up-") {
				t.Errorf("%s is left", file.Path)
			}
		}
		out, code = run(t, c, transfer.RemoveCommand, "{\nbase="+base+"\nrun=run1\nname=h1\nprintf '\\nmry\\n'\nmain </dev/null\necho mry\n}\n")
		if code != 0 || out != "\nmry\nok\nmry\n" {
			t.Errorf("remove: exit %d, %q", code, out)
		}
		if _, there := h.tree.mode(base + "/run1"); there {
			t.Error("the run directory is left")
		}
	})
}

func TestSessionOutlivesConnections(t *testing.T) {
	o := Options{Noise: "hello ", Payload: Payload{Run: time.Minute, ExitCode: 3, Output: []Chunk{
		{After: time.Second, Data: "one\n"}, {After: 20 * time.Second, Data: "two\n", Stderr: true},
	}}}
	inBubble(t, o, func(t *testing.T, h *Host) {
		prepare(t, h, "tok")
		begin := time.Now()
		c := dial(t, h)
		p, f := attach(t, c, "start", &wire.Hello{Token: "tok", Epoch: 1, Credit: 2})
		w := f.GetWelcome()
		if !w.GetStartedNow() || w.GetNonce() != "n1" || w.GetPayloadPid() == 0 {
			t.Fatalf("welcome: %v", f)
		}
		if out := p.recv().GetOutput(); string(out.GetData()) != "on" {
			t.Errorf("with a credit of 2: %v", out)
		}
		p.credit(100)
		if out := p.recv().GetOutput(); string(out.GetData()) != "e\n" || out.GetOffset() != 2 {
			t.Errorf("after more credit: %v", out)
		}
		p.send(&wire.Frame{Kind: &wire.Frame_Ack{Ack: &wire.Ack{Offset: 4}}})
		p.send(&wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: 7}}})
		if pong := p.recv().GetPong(); pong.GetId() != 7 {
			t.Errorf("pong: %v", pong)
		}
		h.Drop()
		if err := c.Wait(); err == nil {
			t.Error("the connection outlived Drop")
		}
		c = dial(t, h)
		p, f = attach(t, c, "start", &wire.Hello{Token: "tok", Epoch: 2, OutputFrom: 4, Credit: 1000})
		if again := f.GetWelcome(); again.GetStartedNow() || again.GetPayloadPid() != w.GetPayloadPid() || again.GetOutputStart() != 4 {
			t.Errorf("second welcome: %v", f)
		}
		if out := p.recv().GetOutput(); string(out.GetData()) != "two\n" || !out.GetStderr() || out.GetOffset() != 4 {
			t.Errorf("output: %v", out)
		}
		if exit := p.recv().GetExit(); exit.GetCode() != 3 || exit.GetOutputEnd() != 8 {
			t.Errorf("exit: %v", exit)
		}
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("the payload ran %v", d)
		}
		p.cleanUp()
		if p.recv().GetCleanedUp() == nil {
			t.Error("no CleanedUp")
		}
		if _, err := p.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after CleanedUp: %v", err)
		}
		if _, there := h.tree.mode(base + "/run1"); there || len(h.Sessions()) != 0 {
			t.Error("something is left")
		}
		if h.PayloadStarts() != 1 || len(h.Unexpected()) != 0 {
			t.Errorf("starts %d, unexpected %v", h.PayloadStarts(), h.Unexpected())
		}
		if _, f = attach(t, c, "attach", &wire.Hello{Token: "tok"}); f.GetRefused().GetReason() != wire.Refused_NO_SESSION {
			t.Errorf("attach to nothing: %v", f)
		}
	})
}

func TestAttachIsGuarded(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Host) {
		prepare(t, h, "tok")
		c := dial(t, h)
		reason := func(verb string, hello *wire.Hello) wire.Refused_Reason {
			t.Helper()
			_, f := attach(t, c, verb, hello)
			return f.GetRefused().GetReason()
		}
		if r := reason("attach", &wire.Hello{Token: "tok"}); r != wire.Refused_NO_SESSION {
			t.Errorf("before a start: %v", r)
		}
		first, f := attach(t, c, "start", &wire.Hello{Token: "tok", Fence: 1})
		if f.GetWelcome() == nil {
			t.Fatal(f)
		}
		if r := reason("attach", &wire.Hello{Token: "other", Fence: 1}); r != wire.Refused_BAD_TOKEN {
			t.Errorf("wrong token: %v", r)
		}
		second, _ := attach(t, c, "attach", &wire.Hello{Token: "tok", Fence: 1})
		if r := first.recv().GetRefused().GetReason(); r != wire.Refused_EVICTED {
			t.Errorf("the older attach got %v", r)
		}
		_, _ = attach(t, c, "attach", &wire.Hello{Token: "tok", Fence: 2})
		if r := second.recv().GetRefused().GetReason(); r != wire.Refused_FENCED {
			t.Errorf("the older initiator got %v", r)
		}
		if r := reason("start", &wire.Hello{Token: "tok", Fence: 1}); r != wire.Refused_FENCED {
			t.Errorf("a lower fence: %v", r)
		}
		if h.PayloadStarts() != 1 {
			t.Errorf("%d starts", h.PayloadStarts())
		}
	})
}

func TestFinishEscalates(t *testing.T) {
	inBubble(t, Options{Payload: Payload{IgnoreSignals: 9}}, func(t *testing.T, h *Host) {
		prepare(t, h, "tok")
		p, _ := attach(t, dial(t, h), "start", &wire.Hello{Token: "tok"})
		begin := time.Now()
		p.send(&wire.Frame{Kind: &wire.Frame_Finish{Finish: &wire.Finish{IntMs: 2000, TermMs: 3000, CleanUp: true}}})
		if exit := p.recv().GetExit(); exit.GetSignal() != int32(syscall.SIGKILL) || time.Since(begin) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), exit)
		}
		if p.recv().GetCleanedUp() == nil {
			t.Error("no CleanedUp")
		}
		if want := []int{2, 15, 9}; !slices.Equal(h.Signals(), want) {
			t.Errorf("signals %v", h.Signals())
		}
	})
}

func TestShimDiesAndStartFails(t *testing.T) {
	inBubble(t, Options{Payload: Payload{Output: []Chunk{{Data: "last words"}}}}, func(t *testing.T, h *Host) {
		prepare(t, h, "tok")
		c := dial(t, h)
		p, _ := attach(t, c, "start", &wire.Hello{Token: "tok", Credit: 100})
		p.recv()
		h.KillShim()
		if _, err := p.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the attach goes on: %v", err)
		}
		p, f := attach(t, c, "start", &wire.Hello{Token: "tok", Credit: 100})
		if f.GetWelcome().GetExit().GetError() == "" || f.GetWelcome().GetStartedNow() {
			t.Errorf("post mortem: %v", f)
		}
		if out := p.recv().GetOutput(); string(out.GetData()) != "last words" {
			t.Errorf("post mortem output: %v", out)
		}
		if p.recv().GetExit().GetCode() != -1 || h.PayloadStarts() != 1 {
			t.Error("no exit record, or a second start")
		}
		p.cleanUp()
		if p.recv().GetCleanedUp() == nil {
			t.Error("no CleanedUp")
		}
		prepare(t, h, "tok")
		h.FailStart("cannot run x")
		if _, f = attach(t, c, "start", &wire.Hello{Token: "tok"}); f.GetWelcome().GetExit().GetError() != "cannot run x" || f.GetWelcome().GetPayloadPid() != 0 {
			t.Errorf("failed start: %v", f)
		}
	})
}

// echoOver writes through a tunnel and expects the answer of the initiator's end.
func echoOver(t *testing.T, h *Host, accept func() (net.Conn, error)) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		c, err := accept()
		if err == nil {
			_, err = io.Copy(c, c)
			err = errors.Join(err, c.Close())
		}
		done <- err
	}()
	c, err := h.DialTunnel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		err = half.CloseWrite()
	} else {
		err = c.Close() // half a close for yamux
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "ping" {
		t.Errorf("echo: %q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestForwardedSocket(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Host) {
		prepare(t, h, "tok")
		c := dial(t, h)
		h.RefuseForward(true)
		if _, err := c.ListenUnix(dir + "/etcd.1.sock"); err == nil {
			t.Error("a refused forward succeeded")
		}
		h.RefuseForward(false)
		if _, err := c.ListenUnix("/nowhere/s"); err == nil {
			t.Error("a socket in no directory")
		}
		dialled := make(chan net.Conn)
		go func() {
			conn, err := h.DialTunnel(t.Context())
			if err != nil {
				t.Error(err)
			}
			dialled <- conn
		}()
		synctest.Wait()
		ln, err := c.ListenUnix(dir + "/etcd.1.sock")
		if err != nil {
			t.Fatal(err)
		}
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = (<-dialled).Close()
		_ = in.Close()
		echoOver(t, h, ln.Accept)
		h.Drop()
		c = dial(t, h)
		if _, err := c.ListenUnix(dir + "/etcd.1.sock"); err == nil {
			t.Error("the socket that sshd left did not block the next")
		}
		if ln, err = c.ListenUnix(dir + "/etcd.2.sock"); err != nil {
			t.Fatal(err)
		}
		echoOver(t, h, ln.Accept)
		p, _ := attach(t, c, "start", &wire.Hello{Token: "tok", Epoch: 2})
		p.send(&wire.Frame{Kind: &wire.Frame_Tunnel{Tunnel: &wire.Tunnel{Epoch: 2, Socket: dir + "/etcd.2.sock"}}})
		synctest.Wait()
		if _, there := h.tree.mode(dir + "/etcd.1.sock"); there {
			t.Error("the older socket is left")
		}
	})
}

func TestStdioTunnel(t *testing.T) {
	// Outside a bubble: yamux keeps its timers in a global pool.
	h := New(Options{Name: "h1"})
	defer h.Close()
	prepare(t, h, "tok")
	ch := open(t, dial(t, h), shim+" tunnel "+dir+" 1 "+marker)
	rw, err := wire.AfterMarker(ch, marker, wire.MaxNoise)
	if err != nil {
		t.Fatal(err)
	}
	session, err := mux.Server(rw)
	if err != nil {
		t.Fatal(err)
	}
	echoOver(t, h, session.Accept)
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	_ = ch.session.Wait() // closed from this end: no exit status
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, there := h.tree.mode(dir + "/etcd.1.sock"); there {
		t.Error("the socket is left")
	}
}

func TestFaultsOfTheLogin(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Host) {
		h.DenyAuth(true)
		if _, err := dialWith(h, DefaultHostKey().PublicKey()); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("denied: %v", err)
		}
		h.DenyAuth(false)
		h.WrongHostKey(true)
		if _, err := dialWith(h, DefaultHostKey().PublicKey()); err == nil || !strings.Contains(err.Error(), "host key mismatch") {
			t.Errorf("wrong key: %v", err)
		}
		h.WrongHostKey(false)
		for _, stage := range []Stage{StageAccept, StageKeyExchange, StageAuth} {
			h.DropWhen(stage)
			if _, err := dialWith(h, DefaultHostKey().PublicKey()); err == nil {
				t.Errorf("dropped at %v: connected", stage)
			}
			release := h.Hang(stage)
			begin := time.Now()
			time.AfterFunc(time.Hour, release)
			c, err := dialWith(h, DefaultHostKey().PublicKey())
			if err != nil || time.Since(begin) != time.Hour {
				t.Errorf("hang at %v: %v after %v", stage, err, time.Since(begin))
				continue
			}
			_ = c.Close()
		}
	})
}

func TestFaultsOfASession(t *testing.T) {
	inBubble(t, Options{MaxSessions: 1}, func(t *testing.T, h *Host) {
		prepare(t, h, "tok")
		c := dial(t, h)
		for _, stage := range []Stage{StageChannelOpen, StageProbe} {
			release := h.Hang(stage)
			begin := time.Now()
			time.AfterFunc(time.Minute, release)
			doProbe(t, c)
			if time.Since(begin) != time.Minute {
				t.Errorf("%v hung for %v", stage, time.Since(begin))
			}
		}
		synctest.Wait()
		thaw := h.Freeze()
		begin := time.Now()
		time.AfterFunc(time.Minute, thaw)
		doProbe(t, c)
		if time.Since(begin) != time.Minute {
			t.Errorf("frozen for %v", time.Since(begin))
		}
		synctest.Wait()
		p, _ := attach(t, c, "start", &wire.Hello{Token: "tok"})
		if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "open failed") {
			t.Errorf("a second channel: %v", err)
		}
		h.Hang(StageFinish)
		p.send(&wire.Frame{Kind: &wire.Frame_Signal{Signal: &wire.Signal{Number: 2}}})
		time.Sleep(time.Hour)
		if s, _ := h.Session(dir); s.Exited || len(h.Signals()) != 0 {
			t.Error("a hanging finish was obeyed")
		}
		h.DropWhen(StageProbe)
		c2 := dial(t, h)
		s, err := c2.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		s.Stdin = strings.NewReader("marker=mrabcdefgh\n")
		if err := s.Run(probe.Command); err == nil {
			t.Error("a dropped probe succeeded")
		}
	})
}

func TestUnknownCommandsAreRecorded(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Host) {
		c := dial(t, h)
		if _, code := run(t, c, "rm -rf /", ""); code != 127 {
			t.Errorf("exit %d", code)
		}
		if _, err := c.Dial("tcp", "192.0.2.3:80"); err == nil {
			t.Error("a direct-tcpip channel was accepted")
		}
		if got := h.Unexpected(); len(got) != 2 || got[0] != "exec rm -rf /" {
			t.Errorf("unexpected: %q", got)
		}
		if _, code := run(t, c, "/no/shim start "+dir+" M", ""); code != 127 || len(h.Unexpected()) != 2 {
			t.Errorf("a missing shim: exit %d, %q", code, h.Unexpected())
		}
	})
}

func TestNetwork(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Host) {
		n := NewNetwork()
		n.Add("h1:22", h)
		c, err := n.DialContext(t.Context(), "tcp", "h1:22")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if _, err := n.DialContext(t.Context(), "tcp", "h2:22"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody there: %v", err)
		}
		n.Remove("h1:22")
		if _, err := n.DialContext(t.Context(), "tcp", "h1:22"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("removed: %v", err)
		}
	})
}

func TestThousandHosts(t *testing.T) {
	const hosts = 1000
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range hosts {
			h := New(Options{Name: fmt.Sprint("h", i), Trust: true, Payload: Payload{Run: time.Minute}})
			prepare(t, h, "tok")
			wg.Go(func() {
				defer h.Close()
				c, err := dialWith(h, DefaultHostKey().PublicKey())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				p, _ := attach(t, c, "start", &wire.Hello{Token: "tok"})
				if f, err := p.Recv(); err != nil || f.GetExit() == nil {
					t.Errorf("%v, %v", f, err)
				}
				if h.PayloadStarts() != 1 {
					t.Errorf("%d starts", h.PayloadStarts())
				}
			})
		}
		wg.Wait()
	})
}

// BenchmarkIdleHost prints the memory of hosts without and with a connection (both its ends) and a session.
func BenchmarkIdleHost(b *testing.B) {
	const n = 500
	used := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	for b.Loop() {
		before := used()
		hosts := make([]*Host, n)
		for i := range hosts {
			hosts[i] = New(Options{Trust: true})
		}
		b.ReportMetric((used()-before)/n, "B/idle-host")
		clients := make([]*ssh.Client, n)
		for i, h := range hosts {
			c, err := dialWith(h, DefaultHostKey().PublicKey())
			if err != nil {
				b.Fatal(err)
			}
			clients[i] = c
		}
		b.ReportMetric((used()-before)/n, "B/connected-host")
		for i, h := range hosts {
			_ = clients[i].Close()
			_ = h.Close()
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("'a b' c\\ d \"e\"")
	f.Fuzz(func(t *testing.T, line string) {
		words, ok := split(line)
		if !ok && words != nil {
			t.Errorf("words %q of a refused line", words)
		}
		variables([]byte(line))
	})
}
