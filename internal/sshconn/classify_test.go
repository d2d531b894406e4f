package sshconn

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// oneShot listens on loopback and gives the first connection to serve.
func oneShot(t *testing.T, serve func(net.Conn)) inventory.Host {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		serve(c)
		_ = c.Close()
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return hostAt(l.Addr())
}

// reset makes the next Close send RST.
func reset(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }

// TestClassify makes the errors for real and looks what they become.
func TestClassify(t *testing.T) {
	nobody := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} // a port that was free a moment ago may be somebody's
	drainInput := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for _, tc := range []struct {
		name  string
		host  inventory.Host
		setup func(*Options)
		kind  fault.Kind
		cause error
		words []string
	}{
		{name: "refused port", host: hostAt(nobody), kind: fault.Unreachable, cause: syscall.ECONNREFUSED, words: []string{"connect", "check that an SSH server listens"}},
		{name: "no such name", host: inventory.Host{Name: "h", Addr: "no-such-host.invalid", Port: 22, User: "u"}, kind: fault.Unreachable, words: []string{"no-such-host.invalid"},
			setup: func(o *Options) { o.ConnectTimeout = 2 * time.Second }},
		{name: "dial timeout", host: testHost, kind: fault.Unreachable, cause: context.DeadlineExceeded, words: []string{"--connect-timeout"}, setup: func(o *Options) {
			o.ConnectTimeout = time.Millisecond
			o.NetDial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}},
		{name: "too many files", host: testHost, kind: fault.Unreachable, words: []string{"ulimit -n"}, setup: func(o *Options) {
			o.NetDial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}
			}
		}},
		{name: "EOF before the version", host: oneShot(t, func(net.Conn) {}), kind: fault.Busy, words: []string{"before it said anything", "MaxStartups"}},
		{name: "reset before the version", host: oneShot(t, reset), kind: fault.Busy, cause: syscall.ECONNRESET, words: []string{"MaxStartups"}},
		{name: "MaxStartups", host: oneShot(t, func(c net.Conn) { _, _ = io.WriteString(c, "Exceeded MaxStartups\r\n") }), kind: fault.Busy, words: []string{"Exceeded MaxStartups"}},
		{name: "not SSH", host: oneShot(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.(*net.TCPConn).CloseWrite()
			drainInput(c)
		}), kind: fault.Environment, words: []string{"not an SSH server", "HTTP/1.1 400 Bad Request"}},
		{name: "not SSH, and stays", host: oneShot(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail ESMTP\r\n"); drainInput(c) }), kind: fault.Unreachable,
			words: []string{"within 50ms"}, setup: func(o *Options) {
				o.ConnectTimeout = 50 * time.Millisecond
				o.NetDial = func(_ context.Context, network, address string) (net.Conn, error) { return net.Dial(network, address) } // may take longer
			}},
		{name: "EOF in the key exchange", host: oneShot(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
			_ = c.(*net.TCPConn).CloseWrite()
			drainInput(c)
		}), kind: fault.Lost},
		{name: "reset in the key exchange", host: oneShot(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
			_, _ = c.Read(make([]byte, 1))
			reset(c)
		}), kind: fault.Lost},
		{name: "no common algorithm", host: serving(t, func(s *server) { s.config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH1SHA1} }), kind: fault.Environment, words: []string{"no common algorithm"}},
		{name: "wrong password", host: with(serving(t, nil), "wrong"), kind: fault.Denied, words: []string{"user u", "a password", "the host takes password"}},
		{name: "too many tries", host: with(serving(t, func(s *server) { s.config.MaxAuthTries = 1 }), "wrong"), kind: fault.Denied},
		{name: "hang up on the password", host: serving(t, func(s *server) {
			s.config.PasswordCallback = func(m ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) {
				return nil, m.(interface{ Close() error }).Close()
			}
		}), kind: fault.Denied, words: []string{"on the password"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := insecure(t)
			if tc.setup != nil {
				tc.setup(&o)
			}
			_, err := dialer(t, o).Dial(t.Context(), tc.host)
			wantFault(t, err, tc.kind, tc.words...)
			if tc.cause != nil && !errors.Is(err, tc.cause) {
				t.Errorf("does not wrap %v: %v", tc.cause, err)
			}
		})
	}
}

func serving(t *testing.T, change func(*server)) inventory.Host {
	s := newServer(t)
	if change != nil {
		change(s)
	}
	return tcp(t, s)
}

func with(h inventory.Host, password inventory.Secret) inventory.Host {
	h.Password = password
	return h
}

func TestPasswords(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	keys := newHostKeys(t, HostKeyOptions{Policy: Insecure})
	tries := 0
	s := newServer(t)
	check := s.config.PasswordCallback
	s.config.PasswordCallback = func(m ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) { tries++; return check(m, p) }
	host := with(tcp(t, s), "")

	ask := &answers{list: []inventory.Secret{goodPassword}}
	o := Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{AskPassword: true, Prompter: ask})}
	connect(t, o, host)
	connect(t, o, host)
	if len(ask.asked) != 1 {
		t.Errorf("asked %q", ask.asked)
	}
	ask = &answers{list: []inventory.Secret{"a", "b", goodPassword}}
	o.Auth = newAuth(t, AuthOptions{Interactive: true, Prompter: ask})
	connect(t, o, host)
	if len(ask.asked) != 3 || !strings.Contains(ask.asked[0], "u@h") {
		t.Errorf("asked %q", ask.asked)
	}
	tries = 0
	ask = &answers{list: []inventory.Secret{"a", "b", "c", "d"}}
	o.Auth = newAuth(t, AuthOptions{Interactive: true, Prompter: ask})
	_, err := dialer(t, o).Dial(t.Context(), host)
	wantFault(t, err, fault.Denied, "3 passwords")
	if tries != 3 {
		t.Errorf("%d tries", tries)
	}
	o.Auth = newAuth(t, AuthOptions{Interactive: true, Prompter: &answers{}})
	_, err = dialer(t, o).Dial(t.Context(), host)
	wantFault(t, err, fault.Canceled)

	// keyboard-interactive: one question without echo is the password; more than that needs a person.
	kbd := newServer(t)
	kbd.config.PasswordCallback = nil
	questions := []string{"Password: "}
	kbd.config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, client ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		for _, q := range questions {
			got, err := client("", "", []string{q}, []bool{false})
			if err != nil || len(got) != 1 || got[0] != goodPassword {
				return nil, errors.New("wrong")
			}
		}
		return nil, nil
	}
	host = tcp(t, kbd)
	o.Auth = newAuth(t, AuthOptions{})
	connect(t, o, host)
	_, err = dialer(t, o).Dial(t.Context(), with(host, "wrong"))
	wantFault(t, err, fault.Denied, "keyboard-interactive")
	questions = append(questions, "Code: \x1b[2J")
	_, err = dialer(t, o).Dial(t.Context(), host)
	if wantFault(t, err, fault.Denied, "more than one password"); strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%q", err)
	}
	ask = &answers{list: []inventory.Secret{goodPassword}}
	o.Auth = newAuth(t, AuthOptions{Interactive: true, Prompter: ask})
	connect(t, o, host)
}

// TestOffersAreBounded: an agent full of keys must not use up the server's tries.
func TestOffersAreBounded(t *testing.T) {
	var ids []string
	for range maxOffers + 2 {
		id, _ := newIdentity(t)
		ids = append(ids, id)
	}
	offered := map[string]int{}
	s := newServer(t)
	s.config.PasswordCallback = nil
	s.config.MaxAuthTries = 100
	s.config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		offered[string(key.Marshal())]++
		return nil, errors.New("no")
	}
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: Insecure}), Auth: newAuth(t, AuthOptions{Identities: append(ids, ids[0])})}
	_, err := dialer(t, o).Dial(t.Context(), with(tcp(t, s), ""))
	wantFault(t, err, fault.Denied, "6 keys", "2 more keys were not tried", "--identity")
	if len(offered) != maxOffers || offered[string(readPublic(t, ids[0]+".pub").Marshal())] != 1 {
		t.Errorf("%d keys offered", len(offered))
	}
}
