package sshconn

import (
	"bytes"
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
	ConnectTimeout    time.Duration // bounds dial, jump hosts, key exchange and authentication together; time spent at a prompt is not counted
	ChannelTimeout    time.Duration // bounds opening a channel and the answer to each request
	KeepaliveInterval time.Duration // time between keepalives; negative means none
	KeepaliveCount    int           // intervals without an answer after which the connection counts as lost

	HostKeys *HostKeys // required
	Auth     *Auth     // required; shared by all dialers that should share prompts and the agent

	// NetDial makes the transport; nil means net.Dialer (whose TCP connections have TCP_NODELAY set).
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger  *slog.Logger // nil means none
}

// Dialer makes connections, and owns those to jump hosts. It is safe for concurrent use. Close it when nothing goes through a
// jump host any more; without jump hosts it holds nothing that needs closing.
type Dialer struct {
	opts  Options
	jumps jumps

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
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dialer{opts: opts, localUser: sync.OnceValues(localUser)}
	d.jumps = jumps{dial: d.dial, known: map[string]*jumpHost{}}
	return d, nil
}

// Close ends the connections to jump hosts, and with them those of all hosts behind them. Dials through jump hosts fail after that.
func (d *Dialer) Close() error { return d.jumps.close() }

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
	c, _, err := d.dial(ctx, host)
	if err != nil {
		return nil, asFault("connect", host.Name, err)
	}
	return c, nil
}

// dial returns also when the clock of the attempt began: not before what was asked of a person.
func (d *Dialer) dial(ctx context.Context, host inventory.Host) (c *Conn, since time.Time, err error) {
	if host.User == "" {
		name, err := d.localUser()
		if err != nil {
			return nil, since, fault.New(fault.Denied, "connect", "local user has no name: %w", err).
				WithRemedy("name the user: user@%s", host.Addr)
		}
		host.User = name
	}
	// Ask before the connection is made: sshd gives up on those who take long (LoginGraceTime).
	if err := d.opts.Auth.prepare(ctx, host); err != nil {
		return nil, since, err
	}
	more, err := d.opts.HostKeys.fromCommand(ctx, host, orderKeys, nil)
	if err != nil {
		return nil, since, err
	}
	opts := d.optionsFor(host)
	raw, since, err := d.transport(ctx, host, opts)
	if err != nil {
		return nil, since, err
	}
	link := newLink(raw)
	if err := link.SetDeadline(since.Add(opts.ConnectTimeout)); err != nil {
		return nil, since, classifyDial(host, errors.Join(err, raw.Close()))
	}
	// Canceling closes the transport; the handshake then ends with an error.
	stop := context.AfterFunc(ctx, func() { _ = link.Close() })
	hs := &handshake{host: host, link: link, auth: d.opts.Auth, timeout: opts.ConnectTimeout, since: since, moreKeys: more}
	shown := d.opts.HostKeys.questions.expect()
	defer shown()
	config, err := d.clientConfig(ctx, hs, shown)
	if err != nil {
		stop()
		return nil, since, errors.Join(err, link.Close())
	}
	conn, chans, reqs, err := ssh.NewClientConn(link, host.Address(), config)
	if !stop() && err == nil {
		_ = link.Close()
		err = ctx.Err()
		go drain(chans, reqs)
	}
	if err != nil {
		_ = link.Close() // x/crypto does it too, except where it panics or changes its mind
		return nil, hs.since, hs.classify(callersEnd(ctx, err))
	}
	if err := link.established(); err != nil {
		_ = link.Close()
		go drain(chans, reqs)
		return nil, hs.since, hs.classify(err)
	}
	return newConn(connParts{host: host.Name, opts: opts, link: link, ssh: conn, chans: chans, reqs: reqs}), hs.since, nil
}

// transport makes the connection that SSH is to be spoken over, directly or through the host's jump hosts. since is when the
// clock began that bounds the whole attempt.
func (d *Dialer) transport(ctx context.Context, host inventory.Host, opts *Options) (raw net.Conn, since time.Time, err error) {
	since = time.Now()
	var jump *Conn
	if host.Jump != nil {
		// The attempt that is waited for has a clock of its own, and began it before us unless a person was asked something.
		var asked time.Time
		if jump, asked, err = d.jumps.connect(ctx, host); err != nil {
			return nil, since, throughJump(host, host.Jump.Name, callersEnd(ctx, err))
		}
		if asked.After(since) {
			since = asked
		}
	}
	dialCtx, cancel := context.WithDeadline(ctx, since.Add(opts.ConnectTimeout))
	defer cancel()
	switch {
	case jump != nil:
		raw, err = jump.hopTo(dialCtx, host)
	case proxied(host) != "":
		raw, err = startProxy(host)
	default:
		if raw, err = d.netDial(dialCtx, host); err != nil {
			err = classifyDial(host, callersEnd(ctx, err))
		}
	}
	return raw, since, err
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

// clientConfig makes the configuration of one handshake; shown is called when the host's key was checked, or is to be asked about.
func (d *Dialer) clientConfig(ctx context.Context, hs *handshake, shown func()) (*ssh.ClientConfig, error) {
	keys, err := d.opts.HostKeys.of(hs.host)
	if err != nil {
		return nil, err
	}
	offered, err := d.algorithms(hs.host, keys, hs.moreKeys)
	if err != nil {
		return nil, err
	}
	login := d.opts.Auth.login(ctx, hs)
	return &ssh.ClientConfig{
		Config:            ssh.Config{Ciphers: offered.ciphers, KeyExchanges: offered.kex, MACs: offered.macs},
		User:              hs.host.User,
		ClientVersion:     "SSH-2.0-mgmt-remote",
		HostKeyAlgorithms: offered.hostKeys,
		HostKeyCallback: func(_ string, remote net.Addr, key ssh.PublicKey) error {
			if hs.trustedKey != nil && bytes.Equal(key.Marshal(), hs.trustedKey) {
				return nil // keys are exchanged anew from time to time
			}
			hs.stage.Store(int32(stageKeys))
			err := d.checkKey(ctx, hs, keys, remote, key, shown)
			if err == nil {
				hs.trustedKey = key.Marshal()
			}
			shown()
			return err
		},
		AuthCallback: login.next,
	}, nil
}

// checkKey decides about the key that a host shows; shown is called when that is done, or the host waits for a person.
func (d *Dialer) checkKey(ctx context.Context, hs *handshake, keys *HostKeys, remote net.Addr, key ssh.PublicKey, shown func()) error {
	more := hs.moreKeys
	if more != nil { // what was asked before may depend on the key
		if err := hs.pause(func() (err error) {
			more, err = d.opts.HostKeys.fromCommand(ctx, hs.host, findKeys, key)
			return err
		}); err != nil {
			return err
		}
	}
	err := keys.check(hs.host, remote, key, more)
	if errors.Is(err, errAskPerson) {
		return hs.pause(func() error { return keys.questions.ask(ctx, keys, hs.host, plainKey(key), shown) })
	}
	return err
}
