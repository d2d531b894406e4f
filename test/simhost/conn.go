package simhost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

var errDenied = errors.New("permission denied")

// serverConfig is made for each connection, since keys and faults change.
func (h *Host) serverConfig(l *link) *ssh.ServerConfig {
	allow := func(meta ssh.ConnMetadata, ok bool) (*ssh.Permissions, error) {
		if !h.reach(l, StageAuth) || !ok || h.opts.User != "" && meta.User() != h.opts.User || h.fault(func(s switches) bool { return s.deny }) {
			return nil, errDenied
		}
		return nil, nil //nolint:nilnil // no permissions is what there is to say
	}
	c := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OpenSSH_9.2 simhost",
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			want := h.opts.AuthorizedKey
			return allow(meta, want == nil && h.opts.Password == "" || want != nil && bytes.Equal(key.Marshal(), want.Marshal()))
		},
	}
	if h.opts.Password != "" {
		c.PasswordCallback = func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return allow(meta, string(password) == h.opts.Password)
		}
	}
	key := h.opts.Signer
	if h.fault(func(s switches) bool { return s.wrongKey }) {
		key = otherKey()
	}
	c.AddHostKey(key)
	return c
}

// connection is one logged-in client.
type connection struct {
	host     *Host
	link     *link
	ssh      *ssh.ServerConn
	sessions atomic.Int32
}

// serve runs one connection to its end.
func (h *Host) serve(l *link) {
	if !h.reach(l, StageAccept) {
		return
	}
	sc, channels, requests, err := ssh.NewServerConn(l, h.serverConfig(l))
	if err != nil {
		h.event(EventRefused, err.Error())
		return
	}
	h.event(EventLoggedIn, sc.User())
	c := &connection{host: h, link: l, ssh: sc}
	h.wg.Go(func() { c.globalRequests(requests) })
	for n := range channels {
		c.channel(n)
	}
	h.dropForwards(c)
}

func (c *connection) globalRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		ok := false
		switch r.Type {
		case "streamlocal-forward@openssh.com":
			ok = c.forward(r.Payload)
		case "cancel-streamlocal-forward@openssh.com":
			ok = c.cancelForward(r.Payload)
		case "no-more-sessions@openssh.com":
			ok = true
		case "keepalive@openssh.com": // OpenSSH answers with a failure, which is an answer
		default:
			c.host.surprise("global request %s", r.Type)
		}
		if r.WantReply {
			if err := r.Reply(ok, nil); err != nil {
				_ = c.link.Close() // the connection is over already
			}
		}
	}
}

func (c *connection) channel(n ssh.NewChannel) {
	if n.ChannelType() != "session" {
		c.host.surprise("channel of type %s", n.ChannelType())
		c.reject(n, ssh.UnknownChannelType, "unknown channel type")
		return
	}
	if int(c.sessions.Load()) >= c.host.opts.MaxSessions {
		c.reject(n, ssh.ConnectionFailed, "open failed") // OpenSSH's words past MaxSessions
		return
	}
	c.sessions.Add(1)
	c.host.wg.Go(func() {
		free := sync.OnceFunc(func() { c.sessions.Add(-1) })
		defer free()
		if !c.host.reach(c.link, StageChannelOpen) {
			return
		}
		ch, requests, err := n.Accept()
		if err != nil {
			_ = c.link.Close() // the connection is over already
			return
		}
		c.session(ch, requests, free)
	})
}

func (c *connection) reject(n ssh.NewChannel, reason ssh.RejectionReason, text string) {
	if err := n.Reject(reason, text); err != nil {
		_ = c.link.Close() // the connection is over already
	}
}

// session serves one session channel: one exec or subsystem, as RFC 4254 section 6.5 has it. free gives the
// session's place to another, before the client can know that it ended.
func (c *connection) session(ch ssh.Channel, requests <-chan *ssh.Request, free func()) {
	defer ch.Close()
	for r := range requests {
		var run func(ssh.Channel) int
		var payload struct{ Text string }
		switch r.Type {
		case "exec", "subsystem":
			if err := ssh.Unmarshal(r.Payload, &payload); err != nil {
				c.host.surprise("%s request: %v", r.Type, err)
				break
			}
			if r.Type == "exec" {
				run = func(ch ssh.Channel) int { return c.exec(payload.Text, ch) }
			} else if payload.Text == "sftp" {
				run = c.sftp
			} else {
				c.host.surprise("subsystem %s", payload.Text)
			}
		case "env":
		default:
			c.host.surprise("channel request %s", r.Type)
		}
		if r.WantReply {
			if err := r.Reply(run != nil, nil); err != nil {
				return
			}
		}
		if run == nil {
			continue
		}
		drained := make(chan struct{})
		go func() { defer close(drained); c.drain(requests) }()
		code := run(ch)
		free()
		// The peer may be gone; then the status interests nobody.
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
		_ = ch.Close()
		<-drained
		return
	}
}

func (c *connection) drain(requests <-chan *ssh.Request) {
	for r := range requests {
		c.host.surprise("channel request %s after the command", r.Type)
		if r.WantReply {
			_ = r.Reply(false, nil) // fails only when the connection is over, which ends the range, too
		}
	}
}

// say writes to a channel; that the peer is gone shows at the next read.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format, args...)
}
