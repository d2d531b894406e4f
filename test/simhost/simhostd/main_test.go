package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestServesUntilStdinEnds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	stdin, closer := io.Pipe()
	out, stdout := io.Pipe()
	done := make(chan error, 1)
	go func() {
		c := config{hosts: 251, payload: "exit=0,run=50ms", trust: true}
		err := c.run(context.Background(), stdin, stdout)
		_ = stdout.CloseWithError(err) // never fails
		done <- err
	}()
	lines := json.NewDecoder(bufio.NewReader(out))
	var a announced
	if err := lines.Decode(&a); err != nil {
		t.Fatal(err)
	}
	if len(a.Hosts) != 251 || a.Hosts[250].Addr != "127.1.1.1" || a.Hosts[250].Port != a.Hosts[0].Port {
		t.Errorf("hosts: %+v", a.Hosts[len(a.Hosts)-1])
	}
	login(t, a)
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	var s summary
	if err := lines.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Connections != 1 || s.Starts != 0 || len(s.Unexpected) != 1 || s.CPUSeconds <= 0 {
		t.Errorf("summary: %+v", s)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(a.Identity); !os.IsNotExist(err) {
		t.Errorf("the identity is left: %v", err)
	}
}

// login uses what was announced, on the last host, for a command that is not expected.
func login(t *testing.T, a announced) {
	t.Helper()
	pem, err := os.ReadFile(a.Identity)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	hostKeys, err := knownhosts.New(a.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	last := a.Hosts[len(a.Hosts)-1]
	c, err := ssh.Dial("tcp", net.JoinHostPort(last.Addr, strconv.Itoa(last.Port)), &ssh.ClientConfig{
		User: "anybody", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: hostKeys, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run("uname -a"); err == nil {
		t.Error("an unexpected command succeeded")
	}
}

func TestParsePayload(t *testing.T) {
	p, err := parsePayload("exit=3,run=1s,lines=2,ignore=1")
	if err != nil || p.ExitCode != 3 || p.Run != time.Second || len(p.Output) != 2 || p.IgnoreSignals != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "exit", "exit=x", "colour=red"} {
		if _, err := parsePayload(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
