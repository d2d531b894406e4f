package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/command"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// proxy is the transport through a command, ssh_config's ProxyCommand: what the command writes to standard output is from
// the host, what it reads from standard input goes there.
type proxy struct {
	in, out *os.File // our ends of the pipes: to the command, and from it
	host    inventory.Host
	cmd     *exec.Cmd
	said    tail          // on standard error
	ended   chan struct{} // closed when the command has ended; state is valid then
	state   error         // how it ended

	close sync.Once
}

// startProxy runs a host's proxy command. Who gets the transport closes it, which ends the command and all that it started. The
// error is a fault.
func startProxy(host inventory.Host) (_ net.Conn, err error) {
	fail := func(err error) (net.Conn, error) {
		return nil, fault.Wrap(fault.Environment, "connect", fmt.Errorf("proxy command %q: %w", host.SSH.ProxyCommand, err)).WithHost(host.Name)
	}
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer theirIn.Close() //nolint:errcheck // the command has its own
	out, theirOut, err := os.Pipe()
	if err != nil {
		return fail(errors.Join(err, in.Close()))
	}
	defer theirOut.Close() //nolint:errcheck // the command has its own
	p := &proxy{in: in, out: out, host: host, ended: make(chan struct{})}
	// exec, as OpenSSH does it: no shell is left between us and a simple command.
	p.cmd = command.New(context.Background(), shell, "-c", "exec "+host.SSH.ProxyCommand)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirIn, theirOut, &p.said
	if err := p.cmd.Start(); err != nil {
		return fail(errors.Join(err, in.Close(), out.Close()))
	}
	go func() {
		p.state = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Close ends the command without waiting for it. Its process group has a second until it is killed.
func (p *proxy) Close() (err error) {
	p.close.Do(func() {
		err = errors.Join(p.in.Close(), p.out.Close())
		pid := p.cmd.Process.Pid
		select {
		case <-p.ended:
		default:
			_ = syscall.Kill(-pid, syscall.SIGTERM) // it may have ended just now
		}
		go func() {
			timer := time.NewTimer(time.Second)
			defer timer.Stop()
			select {
			case <-p.ended:
			case <-timer.C:
			}
			command.KillGroup(pid)
			<-p.ended
		}()
	})
	return err
}

// Read says how the command ended, where that is why nothing comes any more.
func (p *proxy) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if errors.Is(err, io.EOF) {
		err = p.why()
	}
	return n, err
}

// Write is the same for the other direction.
func (p *proxy) Write(b []byte) (int, error) {
	n, err := p.in.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = p.why()
	}
	return n, err
}

// endWait is how long a command that closed its end gets to end, which tells more. It is longer than something that the command left in
// the background can keep its standard error open.
const endWait = command.KillDelay + 3*time.Second

// why is about a command that closed its end.
func (p *proxy) why() error {
	timer := time.NewTimer(endWait)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		return io.EOF
	}
	said := printable(strings.Join(strings.FieldsFunc(p.said.String(), func(r rune) bool { return r == '\n' || r == '\r' }), "; "))
	if said != "" {
		said = ": it said " + said
	}
	how := "ended"
	if p.state != nil {
		how = p.state.Error()
	}
	var exit *exec.ExitError
	unusable := errors.As(p.state, &exit) && (exit.ExitCode() == 126 || exit.ExitCode() == 127) // what shells say then
	return &proxyError{fmt.Errorf("proxy command %q: %s%s", p.host.SSH.ProxyCommand, how, said), unusable}
}

// proxyError is that a proxy command has ended.
type proxyError struct {
	err      error
	unusable bool // it could not be run at all
}

func (e *proxyError) Error() string { return e.err.Error() }

// Unwrap makes it the end of the transport as well.
func (e *proxyError) Unwrap() []error { return []error{e.err, io.ErrUnexpectedEOF} }

func (p *proxy) SetDeadline(t time.Time) error {
	return errors.Join(p.in.SetWriteDeadline(t), p.out.SetReadDeadline(t))
}
func (p *proxy) SetReadDeadline(t time.Time) error  { return p.out.SetReadDeadline(t) }
func (p *proxy) SetWriteDeadline(t time.Time) error { return p.in.SetWriteDeadline(t) }

func (p *proxy) LocalAddr() net.Addr  { return hopAddr("proxy command") }
func (p *proxy) RemoteAddr() net.Addr { return hopAddr(p.host.Address()) }
