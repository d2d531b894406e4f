package shim

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/internal/wire/mux"
)

// testEndpoint is an endpoint in this process, and where to reach it.
func testEndpoint(t *testing.T) (e *endpoint, dir string, dial func() *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, endpointSocket))
	if err != nil {
		t.Fatal(err)
	}
	e = newEndpoint(dir, nil, &logger{w: t.Output()})
	e.serve(ln)
	t.Cleanup(func() {
		e.close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return e, dir, func() *net.UnixConn {
		c, err := net.Dial("unix", filepath.Join(dir, endpointSocket))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.UnixConn)
	}
}

// testTunnel is a tunnel's end: it greets every connection with its name and echoes a line.
func testTunnel(t *testing.T, dir string, epoch uint64, name string) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(dir, tunnelSocket(epoch)))
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as sshd
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, err := bufio.NewReader(c).ReadString('\n')
				if err == nil {
					_, _ = io.WriteString(c, name+":"+all)
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}
	}()
}

func ask(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("got %q, %v; want %q", buf, err, want)
	}
}

func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Fatalf("got %d bytes, %v; want the connection to have ended", n, err)
	}
}

func TestEndpointFollowsTheNewestEpoch(t *testing.T) {
	e, dir, dial := testEndpoint(t)
	held := dial()
	ask(t, held, "early\n") // before there is any tunnel
	testTunnel(t, dir, 3, "three")
	e.setTunnel(1, 3, filepath.Join(dir, tunnelSocket(3)))
	expect(t, held, "three:early\n")

	testTunnel(t, dir, 4, "four")
	e.setTunnel(1, 4, tunnelSocket(4))
	expectEnd(t, held)
	if _, err := os.Lstat(filepath.Join(dir, tunnelSocket(3))); err == nil {
		t.Error("the old epoch's socket is still there")
	}
	c := dial()
	ask(t, c, "x\n")
	expect(t, c, "four:x\n")

	e.setTunnel(1, 3, tunnelSocket(3)) // late news from an old connection
	c2 := dial()
	ask(t, c2, "y\n")
	expect(t, c2, "four:y\n")

	// A newer initiator counts its epochs anew.
	testTunnel(t, dir, 1, "one")
	e.setTunnel(2, 1, tunnelSocket(1))
	expectEnd(t, c)
	expectEnd(t, c2)
	c3 := dial()
	ask(t, c3, "z\n")
	expect(t, c3, "one:z\n")
}

func TestEndpointHoldsWhereTheTunnelIsDead(t *testing.T) {
	e, dir, dial := testEndpoint(t)
	e.setTunnel(1, 1, tunnelSocket(1)) // nobody listens
	c := dial()
	ask(t, c, "hello\n")
	quitter := dial()
	ask(t, quitter, "bye\n")
	if err := quitter.Close(); err != nil {
		t.Fatal(err)
	}
	// More than is read ahead waits in the socket.
	big := dial()
	go func() { _, _ = big.Write(append(bytes.Repeat([]byte("b"), 4*maxHeld), '\n')) }()
	testTunnel(t, dir, 2, "two")
	e.setTunnel(1, 2, tunnelSocket(2))
	expect(t, c, "two:hello\n")
	expect(t, big, "two:"+strings.Repeat("b", 4*maxHeld)+"\n")
}

func TestEndpointPassesHalfClosesOn(t *testing.T) {
	e, dir, dial := testEndpoint(t)
	ln, err := net.Listen("unix", filepath.Join(dir, tunnelSocket(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e.setTunnel(1, 1, tunnelSocket(1))
	c := dial()
	ask(t, c, "question")
	up, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	expect(t, up, "question")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expectEnd(t, up)
	ask(t, up, "answer")
	expect(t, c, "answer")
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}
	expectEnd(t, c)
}

// TestTCPEndpoint connects from our own user and from another one.
func TestTCPEndpoint(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test becomes another user: run it as root")
	}
	s := newSession(t, "sleep", "1000")
	s.spec.Endpoint = wire.EndpointTCP
	s.write()
	if err := os.Mkdir(filepath.Join(s.dir, "t"), 0o700); err != nil {
		t.Fatal(err)
	}
	testTunnel(t, s.dir, 1, "tunnel")
	c, _ := s.welcome("start", nil)
	c.send(&wire.Frame{Kind: &wire.Frame_Tunnel{Tunnel: &wire.Tunnel{Epoch: 1, Socket: s.path(tunnelSocket(1))}}})
	address := strings.TrimPrefix(s.record().EndpointAddress, "http://")
	if ap, err := netip.ParseAddrPort(address); err != nil || ap.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Fatalf("the endpoint is %q", address)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask(t, conn, "mine\n")
	expect(t, conn, "tunnel:mine\n")

	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	stranger := func(uid uint32) string {
		cmd := exec.Command("bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/`+port+` && echo them >&3 && read -r -t 20 x <&3; echo "got:$x"`)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := stranger(65534); strings.Contains(got, "tunnel") {
		t.Errorf("another user gets through: %q", got)
	}
	if got := stranger(0); !strings.Contains(got, "got:tunnel:them") {
		t.Errorf("the same program as ourselves does not: %q", got)
	}
}

// TestStdioTunnel goes the whole way: HTTP from a client at the payload's endpoint through shim, tunnel process and yamux.
func TestStdioTunnel(t *testing.T) {
	s := newSession(t, "sleep", "1000")
	s.write()
	c, _ := s.welcome("start", nil)

	marker := wire.NewMarker()
	cmd := exec.Command(program, "tunnel", s.dir, "7", marker)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	stream, err := wire.AfterMarker(pipeEnds{out, in}, marker, wire.MaxNoise)
	if err != nil {
		t.Fatal(err)
	}
	far, err := mux.Server(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	body := strings.Repeat("x", 1<<20)
	srv := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || string(got) != body {
			t.Errorf("request: %d bytes, %v", len(got), err)
		}
		_, _ = io.WriteString(w, "answer "+body)
	})}
	go func() { _ = srv.Serve(far) }()
	defer srv.Close()

	if fi, err := os.Stat(s.path(tunnelSocket(7))); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the tunnel's socket: %v, %v", fi, err)
	}
	c.send(&wire.Frame{Kind: &wire.Frame_Tunnel{Tunnel: &wire.Tunnel{Epoch: 7, Socket: s.path(tunnelSocket(7))}}})
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.path(endpointSocket))
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Post("http://etcd/", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != "answer "+body {
		t.Errorf("answer: %d bytes, %v", len(got), err)
	}
	_ = resp.Body.Close()
	tr.CloseIdleConnections()
	if err := in.Close(); err != nil { // the SSH channel ends
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the tunnel process: %v", err)
	}
	s.nothingLeft(s.path(tunnelSocket(7)))
}
