package sshfleet

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// loginGrace bounds key exchange and authentication: LoginGraceTime, sshd_config's default.
const loginGrace = 120 * time.Second

// connection is one authenticated SSH connection. It ends when done is closed; wg counts its goroutines.
type connection struct {
	host     *Host
	ssh      *ssh.ServerConn
	log      *slog.Logger
	done     <-chan struct{}
	wg       sync.WaitGroup
	sessions atomic.Int64
	forwards forwards
}

// serve runs one connection to its end.
func (h *Host) serve(c *faultyConn) {
	log := h.log.With("peer", c.RemoteAddr().String())
	if !h.waitStage(c.done, Accept) {
		return
	}
	if err := c.SetDeadline(time.Now().Add(loginGrace)); err != nil {
		log.Debug("set login deadline", "err", err)
		return
	}
	sc, channels, requests, err := ssh.NewServerConn(c, h.serverConfig(c.done))
	if err != nil {
		log.Debug("login", "err", err)
		return
	}
	c.established.Store(true)
	log.Debug("logged in", "user", sc.User())
	conn := &connection{host: h, ssh: sc, log: log, done: c.done}
	defer conn.wg.Wait()
	defer conn.forwards.closeAll(log)
	defer closeQuietly(c, log) // before waiting: releases all that hang
	if err := c.SetDeadline(time.Time{}); err != nil {
		log.Debug("lift login deadline", "err", err)
		return
	}
	conn.wg.Go(func() { conn.globalRequests(requests) })
	for newChannel := range channels { // closed when the connection ends
		conn.wg.Go(func() { conn.channel(newChannel) }) // one goroutine each, so that a hanging channel stops no other
	}
}

var errDenied = errors.New("denied")

func (h *Host) serverConfig(done <-chan struct{}) *ssh.ServerConfig {
	config := &ssh.ServerConfig{ServerVersion: "SSH-2.0-sshfleet"}
	config.AddHostKey(h.signer)
	check := func(m ssh.ConnMetadata, ok bool) (*ssh.Permissions, error) {
		if !h.waitStage(done, Auth) || !ok || m.User() != h.user || h.get().denyAuth {
			return nil, errDenied
		}
		return nil, nil
	}
	if h.login != LoginPassword {
		config.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return check(m, bytes.Equal(key.Marshal(), h.clientKey))
		}
	}
	if h.login != LoginKey {
		config.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return check(m, subtle.ConstantTimeCompare(password, []byte(h.password)) == 1)
		}
	}
	return config
}

// globalRequests answers in order, as RFC 4254 section 4 wants. Everything but unix socket forwards fails:
// tcpip-forward, and keepalive@openssh.com, for which sshd's answer is a failure too.
func (c *connection) globalRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		ok := false
		switch r.Type {
		case "streamlocal-forward@openssh.com":
			ok = c.openForward(r.Payload)
		case "cancel-streamlocal-forward@openssh.com":
			ok = c.cancelForward(r.Payload)
		}
		if r.WantReply {
			if err := r.Reply(ok, nil); err != nil {
				c.log.Debug("answer request", "type", r.Type, "err", err)
			}
		}
	}
}

func (c *connection) channel(n ssh.NewChannel) {
	if !c.host.waitStage(c.done, ChannelOpen) {
		return
	}
	switch n.ChannelType() {
	case "session":
		defer c.sessions.Add(-1)
		if c.sessions.Add(1) > int64(c.host.get().maxSessions) {
			c.reject(n, ssh.ConnectionFailed) // what sshd says beyond MaxSessions
			return
		}
		ch, requests, err := n.Accept()
		if err != nil {
			c.log.Debug("accept channel", "err", err)
			return
		}
		c.session(ch, requests)
	case "direct-tcpip", "direct-streamlocal@openssh.com":
		c.reject(n, ssh.Prohibited)
	default:
		c.reject(n, ssh.UnknownChannelType)
	}
}

func (c *connection) reject(n ssh.NewChannel, reason ssh.RejectionReason) {
	if err := n.Reject(reason, "open failed"); err != nil {
		c.log.Debug("reject channel", "type", n.ChannelType(), "err", err)
	}
}
