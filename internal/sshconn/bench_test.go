package sshconn

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// BenchmarkConnectExec connects, runs a command and disconnects. With the server in another process (the default) cpu-ms/op is the
// client's own CPU time, user and system.
func BenchmarkConnectExec(b *testing.B) {
	host := otherProcess(b)
	o := insecure(b)
	d := dialer(b, o)
	ctx := context.Background()
	began := cpu(b)
	for b.Loop() {
		c, err := d.Dial(ctx, host)
		must(b, err)
		must(b, c.Exec(ctx, Exec{Command: "echo"}))
		must(b, c.Close())
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
	b.ReportAllocs()
}

// BenchmarkBare is the same with x/crypto alone: the floor to compare BenchmarkConnectExec with.
func BenchmarkBare(b *testing.B) {
	host := otherProcess(b)
	config := &ssh.ClientConfig{User: host.User, Auth: []ssh.AuthMethod{ssh.Password(goodPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	began := cpu(b)
	for b.Loop() {
		c, err := ssh.Dial("tcp", host.Address(), config)
		must(b, err)
		session, err := c.NewSession()
		must(b, err)
		must(b, session.Run("echo"))
		must(b, c.Close())
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
	b.ReportAllocs()
}

// BenchmarkExec runs a command on an open connection.
func BenchmarkExec(b *testing.B) {
	host := otherProcess(b)
	c := connect(b, insecure(b), host)
	ctx := context.Background()
	began := cpu(b)
	for b.Loop() {
		must(b, c.Exec(ctx, Exec{Command: "echo"}))
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const serveVariable = "SSHCONN_TEST_SERVE"

// otherProcess runs the test server in a process of its own, which is this binary again.
func otherProcess(t testing.TB) inventory.Host {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeForBenchmark$")
	cmd.Env = append(os.Environ(), serveVariable+"=1")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	line := make([]byte, 64)
	n, err := out.Read(line)
	must(t, err)
	host, err := inventory.ParseHost(strings.TrimSpace(string(line[:n])))
	must(t, err)
	host.User, host.Password = "u", goodPassword
	return host
}

// TestServeForBenchmark is the other process; called otherwise, it has nothing to do.
func TestServeForBenchmark(t *testing.T) {
	if os.Getenv(serveVariable) == "" {
		return
	}
	host := tcp(t, newServer(t))
	_, err := os.Stdout.WriteString(host.Address() + "\n")
	must(t, err)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent closes it
}
