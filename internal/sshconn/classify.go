package sshconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// This file alone decides which kind of fault an SSH error is.

// asFault names host and operation where they are missing. What was not classified before is the end of a context: Canceled when somebody
// asked us to stop; when the caller's deadline passed, Unreachable before there was a connection and Lost on one.
func asFault(op, host string, err error) *fault.Fault {
	kind := fault.Lost
	if op == "connect" {
		kind = fault.Unreachable
	}
	f := fault.Wrap(kind, op, err)
	if f.Host == "" {
		f = f.WithHost(host)
	}
	return f
}

// lost is the end of a connection that we did not end. It is never io.EOF, not for errors.Is either: that is the good end
// of one stream.
func lost(host string, err error) error {
	var f *fault.Fault // a jump host's
	var proxy *proxyError
	if !errors.As(err, &f) && !errors.As(err, &proxy) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		err = fmt.Errorf("the host closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return fault.Wrap(fault.Lost, "keep the connection", err).WithHost(host)
}

// classifyDial is about making the transport.
func classifyDial(host inventory.Host, err error) error {
	f := asFault("connect", host.Name, plainDial(err))
	if f.Kind == fault.Canceled {
		return f
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return f.WithRemedy("check the name %s", host.Addr)
	case errors.As(err, &dns):
		return f.WithRemedy("check this machine's name server")
	case errors.Is(err, syscall.ECONNREFUSED):
		return f.WithRemedy("check that an SSH server listens on port %d", host.Port)
	case errors.Is(err, syscall.ECONNRESET): // accepted, and dropped before connect returned
		f.Kind = fault.Busy // f is ours: Wrap makes a copy
		return f.WithRemedy("lower --max-connections, or look at MaxStartups and PerSourceMaxStartups in the host's sshd_config")
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return f.WithRemedy("raise the limit of open files here (ulimit -n) or lower --max-connections")
	case isTimeout(err):
		return f.WithRemedy("check that the host is up and no firewall drops port %d, or raise --connect-timeout", host.Port)
	}
	return f
}

// throughJump makes a jump host's fault one of a host behind it. The jump host where it happened is named, with what can be done there.
func throughJump(host inventory.Host, jump string, err error) *fault.Fault {
	f := asFault("connect", jump, err)
	var at *jumpError
	if errors.As(f.Err, &at) { // one further in front
		return &fault.Fault{Op: "connect", Host: host.Name, Kind: f.Kind, Err: at, Remedy: f.Remedy}
	}
	cause, remedy := f.Err, f.Remedy
	if f.Op != "connect" && f.Op != "keep the connection" {
		cause = fmt.Errorf("%s: %w", f.Op, cause)
	}
	switch {
	case f.Kind == fault.Busy:
		// There is one connection for all hosts behind it: fewer of them would not help.
		remedy = fmt.Sprintf("look at MaxStartups and PerSourceMaxStartups in the sshd_config of jump host %s", jump)
	case remedy != "":
		remedy = fmt.Sprintf("at jump host %s: %s", jump, remedy)
	case f.Kind != fault.Canceled:
		remedy = fmt.Sprintf("check jump host %s and the way to it", jump)
	}
	return &fault.Fault{Op: "connect", Host: host.Name, Kind: f.Kind, Err: &jumpError{jump, cause}, Remedy: remedy}
}

// refusedHop is about a jump host that is fine and did not connect to a host.
func (c *Conn) refusedHop(host inventory.Host, refused *ssh.OpenChannelError) *fault.Fault {
	fail := func(kind fault.Kind) *fault.Fault {
		return fault.New(kind, "connect", "jump host %s did not connect to %s: %s", c.host, host.Address(), printable(refused.Message)).WithHost(host.Name)
	}
	switch refused.Reason {
	case ssh.Prohibited, ssh.UnknownChannelType:
		return fail(fault.Environment).
			WithRemedy("allow it: AllowTcpForwarding and PermitOpen in the sshd_config of jump host %s, and the key's options in authorized_keys", c.host)
	case ssh.ResourceShortage:
		return fail(fault.Busy).WithRemedy("look at the limits of jump host %s, such as open files", c.host)
	}
	return fail(fault.Unreachable).WithRemedy("check that the host is up, and that jump host %s can reach it and knows its name", c.host)
}

// plainDial leaves out what helps nobody: that it was a dial, over TCP, and the name of the system call.
func plainDial(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	var dns *net.DNSError
	if errors.As(op.Err, &dns) || op.Addr == nil {
		return op.Err
	}
	var call *os.SyscallError
	if errors.As(op.Err, &call) {
		return fmt.Errorf("%s: %w", op.Addr, call.Err)
	}
	return fmt.Errorf("%s: %w", op.Addr, op.Err)
}

// stage is how far a handshake has come.
type stage int32

const (
	stageVersion stage = iota // until the host key was seen
	stageKeys                 // the host key is being checked
	stageAuth                 // the server has said which methods it takes
)

// handshake is what is known about one dial that its errors don't tell.
type handshake struct {
	host    inventory.Host
	link    *link
	auth    *Auth
	timeout time.Duration

	moreKeys   *HostKeys // what KnownHostsCommand says; nil = nothing
	trustedKey []byte    // that the host has shown

	since        time.Time    // when the clock of the attempt began; of the dialing goroutine alone
	stage        atomic.Int32 // stage
	sentPassword atomic.Bool
}

// classify is about everything between the transport and the authenticated connection.
func (hs *handshake) classify(err error) error {
	host := hs.host
	var f *fault.Fault
	if errors.As(err, &f) { // host keys and authentication make their own faults
		return asFault("connect", host.Name, f)
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner // without "ssh: handshake failed"
	}
	fail := func(kind fault.Kind, err error) *fault.Fault {
		return fault.Wrap(kind, "connect", err).WithHost(host.Name)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fail(fault.Unreachable, err)
	}
	var proxy *proxyError
	if errors.As(err, &proxy) {
		f := fail(fault.Unreachable, proxy).WithRemedy("run the command by hand to see what is wrong with it")
		if proxy.unusable {
			f.Kind = fault.Environment // WithRemedy has made f ours
		}
		return f
	}
	greeting := hs.link.greeting()
	spoke := stage(hs.stage.Load()) > stageVersion || hasVersion(greeting)
	switch {
	case isTimeout(err):
		return fail(fault.Unreachable, fmt.Errorf("%s within %v: %w", hs.waitedFor(spoke), hs.timeout, err)).
			WithRemedy("check the host's load, or raise --connect-timeout")
	case !spoke && isBusyGreeting(greeting):
		return fail(fault.Busy, fmt.Errorf("the host takes no more connections: %q", firstLine(greeting))).
			WithRemedy("lower --max-connections, or raise MaxStartups in the host's sshd_config")
	case !spoke && len(greeting) > 0:
		return fail(fault.Environment, fmt.Errorf("what answers on port %d is not an SSH server: it says %q", host.Port, firstLine(greeting))).
			WithRemedy("check the port")
	case !spoke && isClosed(err):
		return fail(fault.Busy, fmt.Errorf("the host closed the connection before it said anything: %w", err)).
			WithRemedy("lower --max-connections, or look at MaxStartups and PerSourceMaxStartups in the host's sshd_config")
	}
	var algorithms *ssh.AlgorithmNegotiationError
	if errors.As(err, &algorithms) {
		return fail(fault.Environment, err).WithRemedy("the host's SSH server is too old or too strict: enable an algorithm that is offered")
	}
	if reason, message, ok := disconnectReason(err); ok {
		return hs.classifyDisconnect(err, reason, message)
	}
	if hs.sentPassword.Load() && errors.Is(err, io.EOF) {
		// Dropbear closes without a word after too many tries.
		return fail(fault.Denied, errors.New("the host closed the connection on the password")).
			WithRemedy("check the password of %s", host.User)
	}
	return fail(fault.Lost, err)
}

func (hs *handshake) waitedFor(spoke bool) string {
	switch {
	case stage(hs.stage.Load()) >= stageAuth:
		return "authentication did not finish"
	case spoke:
		return "key exchange did not finish"
	}
	return "connected, but no SSH server answered"
}

// Disconnect reasons of RFC 4253, section 11.1, that tell more than "gone".
const (
	disconnectProtocolError      = 2 // OpenSSH uses it for "Too many authentication failures"
	disconnectTooManyConnections = 12
	disconnectNoMoreAuthMethods  = 14
	disconnectIllegalUserName    = 15
)

func (hs *handshake) classifyDisconnect(err error, reason int, message string) error {
	kind, remedy := fault.Lost, ""
	switch {
	case reason == disconnectTooManyConnections:
		kind, remedy = fault.Busy, "lower --max-connections"
	case reason == disconnectNoMoreAuthMethods, reason == disconnectIllegalUserName:
		kind, remedy = fault.Denied, "check the user name"
	case reason == disconnectProtocolError && strings.Contains(message, "authentication failures"):
		kind, remedy = fault.Denied, "name the right key with --identity, so that fewer are tried"
	}
	return fault.Wrap(kind, "connect", fmt.Errorf("the host ended the connection: %w", err)).WithHost(hs.host.Name).WithRemedy("%s", remedy)
}

// disconnectReason reads x/crypto's error for a disconnect message, whose type it does not export.
func disconnectReason(err error) (reason int, message string, ok bool) {
	for ; err != nil; err = errors.Unwrap(err) {
		if n, _ := fmt.Sscanf(err.Error(), "ssh: disconnect, reason %d: %q", &reason, &message); n == 2 {
			return reason, message, true
		}
	}
	return 0, "", false
}

// classifyChannel is about requests on a living connection.
func (c *Conn) classifyChannel(op string, err error) error {
	var f *fault.Fault
	if errors.As(err, &f) {
		return asFault(op, c.host, f)
	}
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		switch refused.Reason {
		case ssh.Prohibited, ssh.UnknownChannelType:
			return fault.Wrap(fault.Environment, op, err).WithHost(c.host).
				WithRemedy("the host forbids this to the user: see sshd_config and the key's options in authorized_keys")
		}
		// OpenSSH says "connect failed: open failed" when MaxSessions is reached.
		return fault.Wrap(fault.Busy, op, err).WithHost(c.host).
			WithRemedy("look at MaxSessions in the host's sshd_config")
	}
	// Everything else on a connection is its end; the reading side knows the reason better, if it is quick enough.
	select {
	case <-c.done:
		return c.gone(op)
	default:
		return fault.Wrap(fault.Lost, op, err).WithHost(c.host)
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

func isClosed(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// hasVersion reports whether the peer's identification is among the first lines (RFC 4253, section 4.2, allows others before it).
func hasVersion(greeting []byte) bool {
	return bytes.HasPrefix(greeting, []byte("SSH-")) || bytes.Contains(greeting, []byte("\nSSH-"))
}

// isBusyGreeting knows what OpenSSH writes when it drops a connection at the door (sshd.c: MaxStartups, PerSourcePenalties).
func isBusyGreeting(greeting []byte) bool {
	return bytes.Contains(greeting, []byte("Exceeded MaxStartups")) || bytes.Contains(greeting, []byte("Not allowed at this time"))
}

func firstLine(greeting []byte) string {
	line, _, _ := bytes.Cut(greeting, []byte("\n"))
	return strings.ToValidUTF8(string(bytes.TrimSpace(line[:min(len(line), 80)])), "?")
}
