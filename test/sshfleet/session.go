package sshfleet

import (
	"io"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// session serves one session channel (RFC 4254 section 6): environment, then one command, shell or subsystem. It returns
// when the channel is closed.
func (c *connection) session(ch ssh.Channel, requests <-chan *ssh.Request) {
	defer closeQuietly(ch, c.log)
	s := &session{conn: c, ch: ch, closed: make(chan struct{})}
	for r := range requests {
		ok, then := s.request(r)
		if r.WantReply {
			if err := r.Reply(ok, nil); err != nil {
				c.log.Debug("answer request", "type", r.Type, "err", err)
			}
		}
		if then != nil {
			c.wg.Go(then) // after the reply: output must not overtake it
		}
	}
	close(s.closed)
}

type session struct {
	conn    *connection
	ch      ssh.Channel
	closed  chan struct{} // closed with the channel
	env     []string
	busy    bool // a session runs one thing (RFC 4254 section 6.5)
	command *command
}

// request does what r wants, up to the point where it may be answered, and returns the work that follows the answer.
func (s *session) request(r *ssh.Request) (ok bool, then func()) {
	switch r.Type {
	case "env":
		var m struct{ Name, Value string }
		if ssh.Unmarshal(r.Payload, &m) != nil || !acceptEnv(m.Name) || strings.ContainsRune(m.Value, 0) {
			return false, nil
		}
		s.env = append(s.env, m.Name+"="+m.Value)
		return true, nil
	case "exec":
		var m struct{ Command string }
		if ssh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		return s.exec("-c", m.Command)
	case "shell":
		return s.exec()
	case "subsystem":
		var m struct{ Name string }
		if ssh.Unmarshal(r.Payload, &m) != nil || m.Name != "sftp" || s.busy || s.conn.host.get().refuseSFTP {
			return false, nil
		}
		s.busy = true
		return true, s.sftp
	case "signal":
		var m struct{ Name string }
		if ssh.Unmarshal(r.Payload, &m) != nil || s.command == nil {
			return false, nil
		}
		return s.command.signal(m.Name), nil
	default: // pty-req, window-change, x11-req, agent forwarding
		return false, nil
	}
}

// acceptEnv is Debian's AcceptEnv.
func acceptEnv(name string) bool {
	return name == "LANG" || strings.HasPrefix(name, "LC_") && !strings.ContainsAny(name, "=\x00")
}

func (s *session) exec(args ...string) (ok bool, then func()) {
	h := s.conn.host
	if s.busy || !h.waitStage(s.conn.done, Exec) {
		return false, nil
	}
	s.busy = true
	cmd, err := h.commands.start(h, args, s.env)
	if err != nil {
		s.conn.log.Warn("start command", "err", err)
		return false, nil
	}
	h.execs.Add(1)
	s.command = cmd
	return true, func() { s.relay(cmd) }
}

// relay carries a command's input and output until the channel closes, in the order that sshd has: the exit status goes
// out when the command exits, the channel closes when nobody holds its output any more. When the channel closes first,
// the command only finds its pipes closed.
func (s *session) relay(cmd *command) {
	defer closeQuietly(s.ch, s.conn.log)
	defer cmd.closePipes(s.conn.log)
	fed := make(chan struct{})
	s.conn.wg.Go(func() {
		defer close(fed)
		s.input(cmd.stdin)
	})
	drained := make(chan struct{})
	s.conn.wg.Go(func() {
		defer close(drained)
		stderr := make(chan struct{})
		s.conn.wg.Go(func() {
			defer close(stderr)
			s.output(s.ch.Stderr(), cmd.stderr)
		})
		s.output(s.ch, cmd.stdout)
		<-stderr
	})
	select {
	case <-s.closed:
		closeQuietly(cmd.stdout, s.conn.log)
		closeQuietly(cmd.stderr, s.conn.log)
		select { // what the client sent before it closed still belongs to the command
		case <-fed:
		case <-cmd.exited:
		case <-s.conn.done:
		}
		return
	case <-cmd.exited:
	}
	name, payload := cmd.exitMessage()
	if _, err := s.ch.SendRequest(name, false, payload); err != nil {
		s.conn.log.Debug("send exit", "err", err)
	}
	select {
	case <-s.closed:
	case <-drained:
		if err := s.ch.CloseWrite(); err != nil {
			s.conn.log.Debug("send EOF", "err", err)
		}
	}
}

func (s *session) input(to io.WriteCloser) {
	if _, err := io.Copy(to, s.ch); err != nil {
		s.conn.log.Debug("stdin", "err", err)
		// The command doesn't read any more. sshd takes the rest and forgets it, so that the channel's window never closes.
		if _, err := io.Copy(io.Discard, s.ch); err != nil {
			s.conn.log.Debug("stdin", "err", err)
		}
	}
	closeQuietly(to, s.conn.log)
}

func (s *session) output(to io.Writer, from io.ReadCloser) {
	if _, err := io.Copy(to, from); err != nil {
		s.conn.log.Debug("output", "err", err)
	}
	closeQuietly(from, s.conn.log) // nobody listens any more: the command shall know
}

func (s *session) sftp() {
	defer closeQuietly(s.ch, s.conn.log)
	gate := &writeGate{
		Channel: s.ch,
		open:    func() bool { return s.conn.host.waitStage(s.conn.done, SFTPWrite) },
	}
	server, err := sftp.NewServer(gate, sftp.WithServerWorkingDirectory(s.conn.host.Home()))
	if err != nil {
		s.conn.log.Warn("start sftp", "err", err)
		return
	}
	status := uint32(0)
	if err := server.Serve(); err != nil {
		s.conn.log.Debug("sftp", "err", err)
		status = 255
	}
	name, payload := exitStatus(status)
	if _, err := s.ch.SendRequest(name, false, payload); err != nil {
		s.conn.log.Debug("send exit", "err", err)
	}
}
