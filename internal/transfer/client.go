package transfer

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/pkg/sftp"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
)

// ErrNoSFTP is what faults wrap where the server has no SFTP, or one that does not start.
var ErrNoSFTP = errors.New("the host does not offer SFTP")

// Client is one SFTP session on a host. Its methods are called one after the other. A context that ends during a call ends the client.
type Client struct {
	link *link
	sftp *sftp.Client
	dir  string // what MakeSession made

	closeOnce sync.Once
	closeErr  error
}

// Open starts an SFTP session. The caller closes it before the next exec on hosts with MaxSessions 1, which is why Finish is no method.
func Open(ctx context.Context, conn Conn) (*Client, error) {
	const op = "copy"
	ch, err := conn.Subsystem(ctx, "sftp")
	if err != nil {
		f := fault.Wrap(fault.Lost, op, err)
		if f.Kind == fault.Environment {
			f = fault.New(fault.Environment, op, "%w: %w", ErrNoSFTP, f.Err).
				WithRemedy("add 'Subsystem sftp internal-sftp' to its sshd_config")
		}
		return nil, f
	}
	c, err := newClient(ctx, ch)
	if err == nil {
		return c, nil
	}
	said := strings.TrimSpace(ch.StderrTail())
	if ctx.Err() == nil && fault.KindOf(err) != fault.Lost {
		return nil, fault.New(fault.Environment, op, "%w (it said %q): %w", ErrNoSFTP, said, err).
			WithRemedy("see whether its sftp-server is there and the login shell prints nothing")
	}
	return nil, classify(op, err)
}

func newClient(ctx context.Context, ch channel) (*Client, error) {
	c := &Client{link: newLink(ch)}
	defer c.guard(ctx)()
	var err error
	c.sftp, err = sftp.NewClientPipe(c.link, c.link,
		sftp.MaxPacketUnchecked(maxPacket), sftp.MaxConcurrentRequestsPerFile(inFlight), sftp.UseConcurrentWrites(true))
	if err != nil {
		c.link.cut()
		return nil, errors.Join(orCause(ctx, err), ch.Close())
	}
	return c, nil
}

// Close ends the session. It may be called again.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		err := c.sftp.Close()
		if err != nil && fault.KindOf(err) != fault.Lost {
			c.closeErr = classify("copy", err)
		}
	})
	return c.closeErr
}

// guard makes the calls that follow end with ctx; the returned function ends that.
func (c *Client) guard(ctx context.Context) func() {
	stop := context.AfterFunc(ctx, c.link.cut)
	return func() { stop() }
}

// MakeSession is step 2: the base, the run's and the host's directory are there afterwards, owned by the user, with mode 0700. What is there
// already is checked first; a base of somebody else, with another mode or behind a symbolic link is an Environment fault.
func (c *Client) MakeSession(ctx context.Context, s Session) (dir string, err error) {
	const op = "make directory"
	dir, err = s.check(op)
	if err != nil {
		return "", err
	}
	defer c.guard(ctx)()
	// A clean-up of another run may remove the base while it is empty, between two of these steps. Then they are made again.
	for range 3 {
		if err = c.makeSession(s, dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return "", classify(op, orCause(ctx, err)).WithHost(s.Host)
	}
	c.dir = dir
	return dir, nil
}

func (s Session) check(op string) (dir string, err error) {
	if err := errors.Join(probe.ValidPath(s.Base), probe.ValidSession(s.Run, s.Host)); err != nil {
		return "", fault.Wrap(fault.Bug, op, err).WithHost(s.Host)
	}
	if !strings.HasPrefix(path.Base(s.Base), "mgmt-remote-") {
		return "", fault.New(fault.Bug, op, "%s is no base directory", s.Base).WithHost(s.Host)
	}
	return probe.SessionDir(s.Base, s.Run, s.Host), nil
}

func (c *Client) makeSession(s Session, dir string) error {
	uid, err := c.makeBase(s)
	if err != nil {
		return err
	}
	// Nobody else can do anything below a base that is ours and 0700, so that what is found there is ours.
	for _, d := range []string{path.Dir(dir), dir} {
		if err := c.makeDir(d, uid); err != nil {
			return err
		}
	}
	return nil
}

// beginning is what a base is called before it is ours for certain.
func beginning(s Session) string { return s.Base + "." + s.Run + "." + s.Host }

// makeBase returns the owner. A new base is made under another name: SFTP can't set the mode in the same step (OpenSSH's server applies
// the umask), and for a moment others of the user's group might be able to write. The name is the session's, so that who continues a
// run whose initiator died between the steps goes on with what is there.
func (c *Client) makeBase(s Session) (uid uint32, err error) {
	uid, err = c.ours(s.Base)
	if !errors.Is(err, fs.ErrNotExist) {
		return uid, err
	}
	temp := beginning(s)
	if err := c.sftp.Mkdir(temp); err != nil {
		if _, lstatErr := c.sftp.Lstat(temp); lstatErr != nil { // else it is there, and looked at below
			return 0, at(path.Dir(s.Base), err)
		}
	}
	if uid, err = c.private(temp); err != nil {
		return 0, errors.Join(err, c.sftp.RemoveDirectory(temp))
	}
	if err := c.sftp.Rename(temp, s.Base); err == nil {
		return uid, nil
	}
	if err := c.sftp.RemoveDirectory(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, at(temp, err)
	}
	return c.ours(s.Base) // somebody was faster, or the reason shows here
}

// private sets the mode and makes sure that nobody was faster with writing into the directory.
func (c *Client) private(dir string) (uid uint32, err error) {
	if err := c.sftp.Chmod(dir, 0o700); err != nil {
		return 0, at(dir, err)
	}
	entries, err := c.sftp.ReadDir(dir)
	if err != nil {
		return 0, at(dir, err)
	}
	if len(entries) != 0 {
		return 0, environment("somebody else wrote into %s while it was made", dir).WithRemedy("use --prefix DIR with a directory of your own")
	}
	return c.ours(dir)
}

// makeDir makes one directory in a directory that is ours.
func (c *Client) makeDir(dir string, uid uint32) error {
	info, err := c.sftp.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.sftp.Mkdir(dir); err == nil {
			return at(dir, c.sftp.Chmod(dir, 0o700))
		}
		// Another initiator may have made it meanwhile.
		if again, lstatErr := c.sftp.Lstat(dir); lstatErr == nil {
			info, err = again, nil
		}
	}
	if err != nil {
		return at(dir, err)
	}
	if owner, ok := ownerOf(info); !info.IsDir() || !ok || owner != uid {
		return environment("%s is there and no directory of this user", dir).WithRemedy("remove it")
	}
	if info.Mode().Perm() != 0o700 {
		return at(dir, c.sftp.Chmod(dir, 0o700)) // a copy broke between the two steps above
	}
	return nil
}

// ours checks that dir is a directory, no link, 0700 and of the user; SFTP does not tell who that is, so the owner is compared with the name.
func (c *Client) ours(dir string) (uid uint32, err error) {
	info, err := c.sftp.Lstat(dir)
	if err != nil {
		return 0, at(dir, err)
	}
	owner, ok := ownerOf(info)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		err = environment("%s is a symbolic link", dir)
	case !info.IsDir():
		err = environment("%s is not a directory", dir)
	case !ok || owner != uidOf(dir):
		err = environment("%s belongs to uid %d", dir, owner)
	case info.Mode().Perm() != 0o700:
		err = environment("%s has mode %v, which others can enter", dir, info.Mode().Perm())
	default:
		return owner, nil
	}
	var f *fault.Fault
	if errors.As(err, &f) {
		return 0, f.WithRemedy("remove it after a look at who made it, or use --prefix DIR")
	}
	return 0, err
}
