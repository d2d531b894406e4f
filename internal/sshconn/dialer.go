package sshconn

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os/user"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// Defaults of Options. Interval and count of keepalives find a dead link within a minute, as long as OpenSSH's
// documentation shows for ServerAliveInterval 15 and ServerAliveCountMax 3.
const (
	DefaultConnectTimeout    = 15 * time.Second
	DefaultChannelTimeout    = 15 * time.Second
	DefaultKeepaliveInterval = 15 * time.Second
	DefaultKeepaliveCount    = 3
)

// Options are what all connections of a Dialer share. Zero durations and counts mean the defaults.
type Options struct {
	ConnectTimeout    time.Duration // bounds dial, key exchange and authentication together; time spent at a prompt is not counted
	ChannelTimeout    time.Duration // bounds opening a channel and the answer to each request
	KeepaliveInterval time.Duration // time between keepalives; negative means none
	KeepaliveCount    int           // intervals without an answer after which the connection counts as lost

	HostKeys *HostKeys // required
	Auth     *Auth     // required; shared by all dialers that should share prompts and the agent

	// NetDial makes the transport; nil means net.Dialer (whose TCP connections have TCP_NODELAY set).
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger  *slog.Logger // nil means none
}

// Dialer makes connections. It is safe for concurrent use and holds nothing that needs closing.
type Dialer struct {
	opts Options

	localUser func() (string, error) // looked up once, only when a host names no user
}

// NewDialer checks the options.
func NewDialer(opts Options) (*Dialer, error) {
	if opts.HostKeys == nil || opts.Auth == nil {
		return nil, fault.New(fault.Bug, "connect", "a dialer needs HostKeys and Auth")
	}
	setDefault(&opts.ConnectTimeout, DefaultConnectTimeout)
	setDefault(&opts.ChannelTimeout, DefaultChannelTimeout)
	setDefault(&opts.KeepaliveInterval, DefaultKeepaliveInterval)
	setDefault(&opts.KeepaliveCount, DefaultKeepaliveCount)
	if opts.ConnectTimeout < 0 || opts.ChannelTimeout < 0 || opts.KeepaliveCount < 0 {
		return nil, fault.New(fault.Bug, "connect", "negative timeout or keepalive count")
	}
	if opts.NetDial == nil {
		opts.NetDial = new(net.Dialer).DialContext
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Dialer{opts: opts, localUser: sync.OnceValues(localUser)}, nil
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func localUser() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return u.Username, nil
}

// Dial connects to host, verifies its key and authenticates. The caller owns the connection and closes it; ctx bounds the dial only.
//
// The fault's kind is Unreachable, Busy, Denied, Untrusted, Lost, Environment (nothing there that we can talk to) or Canceled.
func (d *Dialer) Dial(ctx context.Context, host inventory.Host) (*Conn, error) {
	c, err := d.dial(ctx, host)
	if err != nil {
		return nil, asFault("connect", host.Name, err)
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, host inventory.Host) (*Conn, error) {
	if host.User == "" {
		name, err := d.localUser()
		if err != nil {
			return nil, fault.New(fault.Denied, "connect", "local user has no name: %w", err).
				WithRemedy("name the user: user@%s", host.Addr)
		}
		host.User = name
	}
	// Ask before the connection is made: sshd gives up on those who take long (LoginGraceTime).
	if err := d.opts.Auth.prepare(ctx, host); err != nil {
		return nil, err
	}

	dialCtx, cancel := context.WithTimeout(ctx, d.opts.ConnectTimeout)
	defer cancel()
	deadline, _ := dialCtx.Deadline()
	raw, err := d.opts.NetDial(dialCtx, "tcp", host.Address())
	if err != nil {
		return nil, classifyDial(host, callersEnd(ctx, err))
	}
	link := newLink(raw)
	if err := link.SetDeadline(deadline); err != nil {
		return nil, classifyDial(host, errors.Join(err, raw.Close()))
	}
	// Canceling closes the transport; the handshake then ends with an error.
	stop := context.AfterFunc(ctx, func() { _ = link.Close() })
	hs := &handshake{host: host, link: link, auth: d.opts.Auth, timeout: d.opts.ConnectTimeout}
	conn, chans, reqs, err := ssh.NewClientConn(link, host.Address(), d.clientConfig(ctx, hs))
	if !stop() && err == nil {
		_ = link.Close()
		err = ctx.Err()
		go drain(chans, reqs)
	}
	if err != nil {
		_ = link.Close() // x/crypto does it too, except where it panics or changes its mind
		return nil, hs.classify(callersEnd(ctx, err))
	}
	if err := link.established(); err != nil {
		_ = link.Close()
		go drain(chans, reqs)
		return nil, hs.classify(err)
	}
	return newConn(connParts{host: host.Name, opts: &d.opts, link: link, ssh: conn, chans: chans, reqs: reqs}), nil
}

// callersEnd prefers the reason the caller gave over what the interrupted call says.
func callersEnd(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return err
}

// drain lets the connection's own goroutine end, which blocks when nobody takes what it offers.
func drain(chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	for chans != nil || reqs != nil {
		select {
		case _, ok := <-chans:
			if !ok {
				chans = nil
			}
		case _, ok := <-reqs:
			if !ok {
				reqs = nil
			}
		}
	}
}

// ciphers puts aes128-gcm first: with hardware support it costs half the CPU of chacha20 in bulk.
var ciphers = []string{
	ssh.CipherAES128GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256GCM,
	ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
}

func (d *Dialer) clientConfig(ctx context.Context, hs *handshake) *ssh.ClientConfig {
	login := d.opts.Auth.login(ctx, hs)
	return &ssh.ClientConfig{
		Config:            ssh.Config{Ciphers: ciphers},
		User:              hs.host.User,
		ClientVersion:     "SSH-2.0-mgmt-remote",
		HostKeyAlgorithms: d.opts.HostKeys.algorithms(hs.host.Address()),
		HostKeyCallback: func(address string, remote net.Addr, key ssh.PublicKey) error {
			hs.stage.Store(int32(stageKeys))
			return d.opts.HostKeys.check(address, remote, key)
		},
		AuthCallback: login.next,
	}
}
