package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"unicode"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// Execer runs a command on a host; *sshconn.Conn is one.
type Execer interface {
	Exec(ctx context.Context, e sshconn.Exec) error
}

// Request is what to ask for.
type Request struct {
	// Prefix is the only directory in which a new session may be made; "" means the first usable one of /var/tmp, $HOME/.cache, /tmp.
	// Sessions are looked for in all of them.
	Prefix string
	// Bases are further base directories to look for a session in, such as the one that a run's journal recorded.
	Bases []string
	Run   string // the run's ID
	Host  string // the host's name in the run
}

// op is how faults of this package name what was attempted.
const op = "probe"

// maxAnswer bounds what a host can make us keep: far more than a full cache's list.
const maxAnswer = 1 << 20

// Run asks a host. One exec is all that happens on the connection.
//
// The fault's kind is Environment when the host gave no usable answer, Canceled or what the connection said otherwise. No usable
// directory is no error here: see Facts.Usable.
func Run(ctx context.Context, conn Execer, r Request) (Facts, error) {
	if err := check(r); err != nil {
		return Facts{}, err.WithHost(r.Host)
	}
	marker := newMarker()
	out := &limited{limit: maxAnswer}
	execErr := conn.Exec(ctx, sshconn.Exec{Command: Command, Stdin: bytes.NewReader(script(marker, r)), Stdout: out})
	var exit *sshconn.ExitError
	if execErr != nil && !errors.As(execErr, &exit) {
		return Facts{}, fault.Wrap(fault.Lost, op, execErr).WithHost(r.Host)
	}
	// A complete answer counts, whatever a logout script made of the exit status.
	facts, err := Parse(marker, out.Bytes())
	if err == nil {
		return facts, nil
	}
	f := fault.Wrap(fault.Environment, op, err)
	if exit != nil {
		f = fault.New(fault.Environment, op, "%w (%w)", f.Err, exit).WithRemedy("%s", f.Remedy)
	}
	return Facts{}, f.WithHost(r.Host)
}

func check(r Request) *fault.Fault {
	if r.Prefix != "" {
		if err := ValidPath(r.Prefix); err != nil {
			return fault.Wrap(fault.Environment, op, err).WithRemedy("give --prefix another directory")
		}
	}
	for _, base := range r.Bases {
		if err := ValidPath(base); err != nil {
			return fault.Wrap(fault.Bug, op, err)
		}
	}
	if err := ValidSession(r.Run, r.Host); err != nil {
		return fault.Wrap(fault.Bug, op, err)
	}
	return nil
}

// limited keeps the last bytes written to it: the answer comes after the noise. It takes everything, so that the command is not blocked.
type limited struct {
	buf   bytes.Buffer
	limit int
}

var _ io.Writer = (*limited)(nil)

func (l *limited) Write(p []byte) (int, error) {
	l.buf.Write(p)
	if l.buf.Len() > 2*l.limit {
		l.buf.Next(l.buf.Len() - l.limit)
	}
	return len(p), nil
}

func (l *limited) Bytes() []byte { return l.buf.Bytes() }

// excerpt makes a short line for an error message of whatever a host printed.
func excerpt(out []byte) string {
	const most = 200
	text := strings.ToValidUTF8(string(out[:min(len(out), 4*most)]), "?")
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}
