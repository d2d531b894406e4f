// Package become runs commands on a host as another user than the one that logs in. It is the one place that does so: what it returns
// in place of a connection wraps every command with sudo or doas, so that whoever has it can't forget to.
//
// Nothing is ever executed as the other user that the login user could have written: sudo itself and the SFTP server are taken from
// directories of the system, scripts come through the connection, and what is copied goes to a directory of the other user.
package become

import (
	"context"
	"errors"
	"net"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

const op = "become"

// The methods.
const (
	Sudo = inventory.Sudo
	Doas = inventory.Doas
)

// DefaultUser is who is become where nobody is named.
const DefaultUser = "root"

// Target is whom to become, and how. The zero value: nobody.
type Target struct {
	User   string
	Method string // Sudo or Doas; "" = what the host has, sudo first
}

// Check says what is wrong with the target.
func (t Target) Check() error {
	if t.User != "" {
		if err := inventory.ValidBecomeUser(t.User); err != nil {
			return err
		}
	}
	if t.Method == "" {
		return nil
	}
	return inventory.ValidBecomeMethod(t.Method)
}

// Way is what runs on a host go through: *sshconn.Conn for the login user, and what Enter returns for another one.
type Way interface {
	Exec(ctx context.Context, e sshconn.Exec) error
	Open(ctx context.Context, command string) (*sshconn.Channel, error)
	Subsystem(ctx context.Context, name string) (*sshconn.Channel, error)
	ListenUnix(ctx context.Context, path string) (net.Listener, error)
}

// Connection is what is wrapped; *sshconn.Conn is one. The caller owns it.
type Connection interface {
	Way
	OpenThrough(ctx context.Context, command string, door sshconn.Door) (*sshconn.Channel, error)
	Done() <-chan struct{}
}

var _ Connection = (*sshconn.Conn)(nil)

// Options say who is become on which host.
type Options struct {
	Host     string // as it is called in the run
	Target   Target
	Password *Password // nil = none
	// Again makes another connection to the host, where its server has no second session on the first one. It is closed with the first
	// one. nil = there is no other.
	Again func(ctx context.Context) (*sshconn.Conn, error)
}

// Enter returns the way to run commands as the target on a host; for a target that logged in already, or none, that is conn itself. It
// asks the host who is there and what for, in one exec as the login user, and nothing is run as the target yet.
//
// The fault's kind is Environment where the host lacks the user or the program, or what the connection said.
func Enter(ctx context.Context, conn Connection, o Options) (Way, error) {
	host, target := o.Host, o.Target
	if target.User == "" {
		return conn, nil
	}
	if err := target.Check(); err != nil {
		return nil, fault.Wrap(fault.Bug, op, err).WithHost(host)
	}
	there, err := look(ctx, conn, target)
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err).WithHost(host)
	}
	if there.targetUID == "" {
		return nil, fault.New(fault.Environment, op, "there is no user %s", target.User).WithHost(host).
			WithRemedy("make the user, or name another one with --become-user")
	}
	if there.targetUID == there.uid {
		return conn, nil
	}
	method, program, err := there.choose(target.Method)
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err).WithHost(host)
	}
	return &way{
		conn: conn, host: host, login: there.user, user: target.User, method: method, program: program, sftp: there.sftp,
		password: o.Password, spare: newSpare(conn, o.Again),
	}, nil
}

// way wraps what is run.
type way struct {
	conn     Connection
	host     string
	login    string // who logged in, for people
	user     string // who is become
	method   string
	program  string // its path
	sftp     string // path of the SFTP server's program; "" = none was found
	password *Password
	spare    *spare
}

var _ Way = (*way)(nil)

// Exec is that of the connection, as the other user.
func (w *way) Exec(ctx context.Context, e sshconn.Exec) error {
	d := w.door()
	e.Command, e.Door = d.wrap(e.Command), d
	return w.conn.Exec(ctx, e)
}

// Open is that of the connection, as the other user.
func (w *way) Open(ctx context.Context, command string) (*sshconn.Channel, error) {
	ch, err := w.openOn(ctx, w.conn, command)
	if fault.KindOf(err) != fault.Busy || w.spare == nil {
		return ch, err
	}
	second, err := w.spare.get(ctx)
	if err != nil {
		return nil, err
	}
	return w.openOn(ctx, second, command)
}

func (w *way) openOn(ctx context.Context, conn Connection, command string) (*sshconn.Channel, error) {
	d := w.door()
	return conn.OpenThrough(ctx, d.wrap(command), d)
}

// Subsystem runs the program of the only one that can be had so, SFTP: the server's own would be the login user's.
func (w *way) Subsystem(ctx context.Context, name string) (*sshconn.Channel, error) {
	if name != "sftp" {
		return nil, fault.New(fault.Bug, op, "no subsystem %s for another user", name).WithHost(w.host)
	}
	if w.sftp == "" {
		return nil, fault.New(fault.Environment, op, "the host has no sftp-server to run as %s", w.user).WithHost(w.host).
			WithRemedy("install the SFTP server of OpenSSH (Debian: openssh-sftp-server)")
	}
	return w.Open(ctx, w.sftp)
}

// errOwner is why sockets are not forwarded: the server makes them as the login user.
var errOwner = errors.New("a forwarded socket would belong to the login user")

// ListenUnix always fails like a server that does not forward: its socket would be the login user's, who could put himself between.
func (w *way) ListenUnix(context.Context, string) (net.Listener, error) {
	return nil, fault.New(fault.Environment, op, "%w: %w", sshconn.ErrForwardRefused, errOwner).WithHost(w.host)
}
