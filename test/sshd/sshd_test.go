//go:build linux

package sshd

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func config(t *testing.T, s *Server) *ssh.ClientConfig {
	t.Helper()
	check, err := knownhosts.New(s.KnownHostsFile)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	return &ssh.ClientConfig{User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: check,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: patience}
}

func dial(t *testing.T, s *Server) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial("tcp", s.Addr, config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func run(t *testing.T, c *ssh.Client, command string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestOpenSSH(t *testing.T) {
	s := Start(t, Options{Config: []string{"MaxSessions 1", "AllowStreamLocalForwarding no"}})
	c := dial(t, s)
	if got := run(t, c, `echo "$HOME"`); got != s.Home {
		t.Errorf("HOME is %q, want %q", got, s.Home)
	}
	if _, err := c.ListenUnix(s.Home + "/s"); err == nil {
		t.Error("the extra configuration doesn't count: forward granted")
	}
	first, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var open *ssh.OpenChannelError
	if _, err := c.NewSession(); !errors.As(err, &open) {
		t.Errorf("second session with MaxSessions 1: %v", err)
	}
	if err := first.RequestSubsystem("sftp"); err != nil {
		t.Errorf("no sftp: %v", err)
	}
	if !strings.Contains(s.Log(), "Accepted publickey") {
		t.Errorf("log:\n%s", s.Log())
	}
}

func TestNoSFTP(t *testing.T) {
	c := dial(t, Start(t, Options{NoSFTP: true}))
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestSubsystem("sftp"); err == nil {
		t.Error("sftp offered")
	}
}

// lives runs what both servers must be able to go through.
func lives(t *testing.T, s *Server) {
	t.Helper()
	c := dial(t, s)
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// Survives its session; ended below by removing the file it watches.
	alive := s.Home + "/alive"
	if err := os.WriteFile(alive, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := session.Start("setsid sh -c 'while test -e " + alive + "; do sleep 0.02; done' </dev/null >/dev/null 2>&1 & echo up; exec cat"); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if got := run(t, dial(t, s), "echo again"); got != "again" {
		t.Errorf("after Restart: %q", got)
	}
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("a session died of the restart: %v", err)
	}
	c2 := dial(t, s)
	run(t, c2, "true")
	if n := s.KillSessions(); n == 0 {
		t.Error("no session found")
	}
	ended := make(chan error, 1)
	go func() { ended <- c2.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the connection survived KillSessions")
	}
	if got := run(t, dial(t, s), "echo back"); got != "back" {
		t.Errorf("after KillSessions: %q", got)
	}
	if found, err := leftovers.Processes(alive); err != nil || len(found) == 0 {
		t.Errorf("the detached process died too: %v, %v", found, err)
	}
	if err := os.Remove(alive); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	s.Stop()
	if s.PID() != 0 {
		t.Error("still has a PID")
	}
	if c, err := ssh.Dial("tcp", s.Addr, config(t, s)); err == nil {
		_ = c.Close()
		t.Error("still listening after Stop")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if r, err := leftovers.Wait(ctx, alive); err != nil || !r.Empty() {
		t.Errorf("left: %v, %v", r, err)
	}
}

func TestOpenSSHLives(t *testing.T)  { lives(t, Start(t, Options{})) }
func TestDropbearLives(t *testing.T) { lives(t, StartDropbear(t, Options{})) }

func TestDropbear(t *testing.T) {
	s := StartDropbear(t, Options{})
	c := dial(t, s)
	run(t, c, `echo hi > "$HOME/f"`)
	if got, err := os.ReadFile(s.Home + "/f"); err != nil || string(got) != "hi\n" {
		t.Errorf("home isn't ours: %q, %v", got, err)
	}
	if _, err := c.ListenUnix("/tmp/never"); err == nil {
		t.Error("dropbear granted a unix forward")
	}
}

// TestPortIsKept holds that a stopped server refuses connections, and that its port is nobody else's meanwhile.
func TestPortIsKept(t *testing.T) {
	s := Start(t, Options{})
	s.Stop()
	if c, err := net.Dial("tcp", s.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a stopped server: %v, %v", c, err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: s.Port}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("somebody else at its port: %v", err)
	}
	if err := syscall.Close(fd); err != nil {
		t.Error(err)
	}
	s.Restart()
	run(t, dial(t, s), "true")
}

func TestClientProgram(t *testing.T) {
	s := Start(t, Options{})
	cmd := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile="+s.KnownHostsFile,
		"-o", "IdentityAgent=none", "-i", s.KeyFile, "-p", s.Addr[strings.LastIndex(s.Addr, ":")+1:], s.User+"@127.0.0.1", "exit 3")
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v: %s", err, out)
	}
}
