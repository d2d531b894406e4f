package sshfleet

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// client makes a command of one of OpenSSH's clients, which disagree on the option for the port.
func client(t *testing.T, f *Fleet, program, portFlag string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is not installed: install openssh-client: make deps", program)
	}
	return exec.CommandContext(t.Context(), path, append([]string{
		"-F", "none", "-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "UserKnownHostsFile=" + f.KnownHostsFile(),
		"-o", "StrictHostKeyChecking=yes", "-o", "ExitOnForwardFailure=yes", "-i", f.KeyFile(),
		portFlag, strconv.Itoa(f.Hosts()[0].Port()),
	}, args...)...)
}

func TestOpenSSHExec(t *testing.T) {
	f := newFleet(t, Options{})
	target := f.Hosts()[0].User() + "@127.0.0.1"
	cmd := client(t, f, "ssh", "-p", target, "cat; echo err >&2; exit 42")
	cmd.Stdin = strings.NewReader("over stdin")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 || string(out) != "over stdin" || !strings.Contains(stderr.String(), "err\n") {
		t.Errorf("got %q, %q, %v", out, stderr.String(), err)
	}
	// No command: a login shell reads its commands from stdin.
	cmd = client(t, f, "ssh", "-p", "-T", target)
	cmd.Stdin = strings.NewReader("echo from shell; exit 5\n")
	if out, err = cmd.Output(); !errors.As(err, &exit) || exit.ExitCode() != 5 || string(out) != "from shell\n" {
		t.Errorf("shell: %q, %v", out, err)
	}
	cmd = client(t, f, "ssh", "-p", target, "kill -TERM $$")
	if err = cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 255 { // ssh(1): 255 for an exit by signal
		t.Errorf("killed: %v", err)
	}
}

func TestOpenSSHSFTP(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	big := strings.Repeat("0123456789abcdef", 1<<16)
	local := t.TempDir() + "/up"
	if err := os.WriteFile(local, []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := client(t, f, "sftp", "-P", "-b", "-", h.User()+"@127.0.0.1")
	cmd.Stdin = strings.NewReader("put " + local + " up\nrename up there\nget there " + local + "2\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{h.Home() + "/there", local + "2"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != big {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
}

func TestOpenSSHForward(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	near := h.Sandbox() + "/near" // where the client connects to
	far := h.Prefix() + "/far"    // what the server listens on
	l, err := net.Listen("unix", near)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := client(t, f, "ssh", "-p", "-R", far+":"+near, h.User()+"@127.0.0.1", "echo up; exec cat")
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
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	var peer net.Conn
	eventually(t, "the forward listens", func() bool { // the request for it goes its own way here, beside the command's
		peer, err = net.Dial("unix", far)
		return err == nil
	})
	defer peer.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if _, err := io.WriteString(peer, "question"); err != nil {
		t.Fatal(err)
	}
	if err := peer.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(served); err != nil || string(got) != "question" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := io.WriteString(served, "answer"); err != nil {
		t.Fatal(err)
	}
	_ = served.Close()
	if got, err := io.ReadAll(peer); err != nil || string(got) != "answer" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(far); err != nil {
		t.Errorf("sshd would have left the socket file: %v", err)
	}
	// The socket file that stayed refuses the next forward.
	again := client(t, f, "ssh", "-p", "-R", far+":"+near, h.User()+"@127.0.0.1", "true")
	if out, err := again.CombinedOutput(); err == nil {
		t.Errorf("forward over an existing path: %s", out)
	}
}
