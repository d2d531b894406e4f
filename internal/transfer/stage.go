package transfer

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// Stager does steps 2 and 3. Its methods are called one after the other, and Close before the next exec on hosts with MaxSessions 1; the
// programs of a copy are in place when Finish was called after that. A *Client is one.
type Stager interface {
	MakeSession(ctx context.Context, s Session) (dir string, err error)
	Copy(ctx context.Context, r CopyRequest) (CopyResult, error)
	Close() error
}

// Begin starts an SFTP session, and where the host has none does the same through its shell.
func Begin(ctx context.Context, conn Conn) (Stager, error) {
	client, err := Open(ctx, conn)
	switch {
	case err == nil:
		return client, nil
	case errors.Is(err, ErrNoSFTP):
		return &scripted{conn: conn}, nil
	}
	return nil, err
}

// scripted is a Stager that needs nothing but a shell.
type scripted struct {
	conn Conn
	dir  string // what MakeSession made
}

var _, _ Stager = (*Client)(nil), (*scripted)(nil)

// MakeCommand is what the login shell of a host without SFTP is asked to run for step 2.
const MakeCommand = "/bin/sh -s mgmt-remote-make"

//go:embed make.sh
var makeScript string

// MakeSession implements Stager: the same as with SFTP.
func (c *scripted) MakeSession(ctx context.Context, s Session) (string, error) {
	const op = "make directory"
	dir, err := s.check(op)
	if err != nil {
		return "", err
	}
	var script strings.Builder
	for _, v := range [...]struct{ name, value string }{{"base", s.Base}, {"run", s.Run}, {"name", path.Base(dir)}} {
		fmt.Fprintf(&script, "%s=%s\n", v.name, shellescape.Quote(v.value))
	}
	script.WriteString(makeScript)
	answers, err := ask(ctx, c.conn, MakeCommand, script.String())
	if err != nil {
		return "", wrapAsk(op, err).WithHost(s.Host)
	}
	if len(answers) != 1 || answers[0] != "ok" {
		_, said, _ := strings.Cut(strings.Join(answers, " "), " ")
		return "", fault.New(fault.Environment, op, "%s", strings.TrimSpace(said)).WithHost(s.Host).
			WithRemedy("remove it after a look at who made it, or use --prefix DIR")
	}
	c.dir = dir
	return dir, nil
}

// Copy implements Stager: the same as with SFTP.
func (c *scripted) Copy(ctx context.Context, r CopyRequest) (CopyResult, error) {
	const op = "copy"
	if r.Dir == "" {
		r.Dir = c.dir
	}
	if err := r.check(); err != nil {
		return CopyResult{}, fault.Wrap(fault.Bug, op, err)
	}
	result, err := c.copy(ctx, r)
	if err != nil {
		return CopyResult{}, classify(op, orCause(ctx, err))
	}
	return result, nil
}

func (c *scripted) copy(ctx context.Context, r CopyRequest) (CopyResult, error) {
	result := CopyResult{Paths: make(map[string]string, len(r.Blobs))}
	uploads, err := plan(ctx, r, &result, func(path string, size int64) (bool, error) { return c.there(ctx, path, size) })
	if err != nil {
		return result, err
	}
	meter := &meter{report: r.Progress}
	for _, u := range uploads {
		meter.total += u.source.Size()
	}
	for _, u := range uploads {
		temp := tempName(r.Dir)
		source := &source{data: u.source, link: noLink, meter: meter}
		if err := c.put(ctx, placed{temp: temp, mode: "600", size: u.source.Size()}, &contextReader{ctx: ctx, r: source}); err != nil {
			return result, err
		}
		result.Pending = append(result.Pending, Install{Temp: temp, Path: u.path, SHA256: u.sha256, Gzip: u.gzipped})
	}
	result.Sent = meter.total
	for _, f := range r.Files {
		to := placed{temp: tempName(r.Dir), mode: fmt.Sprintf("%o", f.mode()), path: r.Dir + "/" + f.Name, size: int64(len(f.Data))}
		if err := c.put(ctx, to, strings.NewReader(string(f.Data))); err != nil {
			return result, err
		}
	}
	return result, nil
}

// thereScript says "$0" where "$1" is a file of "$2" bytes.
const thereScript = `if [ -f "$1" ] && [ $(wc -c <"$1") -eq "$2" ]; then printf "\n%s\n" "$0"; fi`

// there is the Client's. Only a session without a cache asks.
func (c *scripted) there(ctx context.Context, path string, size int64) (bool, error) {
	marker := newMarker()
	out := &bounded{left: 64 << 10}
	err := c.conn.Exec(ctx, sshconn.Exec{
		Command: shellescape.QuoteCommand([]string{"/bin/sh", "-c", thereScript, marker, path, fmt.Sprint(size)}), Stdout: out,
	})
	if exit := (*sshconn.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return false, err
	}
	return strings.Contains(out.buf.String(), "\n"+marker+"\n"), nil // it is sent again where the host does not say
}

// noLink is never cut: an exec ends with its context.
var noLink = &link{gone: make(chan struct{})}

// placed says where standard input goes.
type placed struct {
	temp, mode string
	path       string // where it is renamed to; "" = it stays
	size       int64
}

// putScript writes standard input to a new file, "$1", with mode "$2", and renames it to "$3" where that is not empty. A connection that breaks
// looks like the end of the file, so what has not the size "$4" is removed. It stands in a command line: no login shell may find anything of its own
// in it, such as a line's end or an exclamation mark (csh).
const putScript = `umask 077; LC_ALL=C; export LC_ALL; PATH=${PATH:-/usr/bin:/bin}:/usr/bin:/bin; set -C; ` +
	`if cat >"$1" && { [ $(wc -c <"$1") -eq "$4" ] || { echo "not all of it arrived" >&2; false; }; } && chmod "$2" "$1" && ` +
	`{ sync "$1" 2>/dev/null || sync; } && { [ -z "$3" ] || mv -f "$1" "$3"; }; then printf "\n%s\n" "$0"; else rm -f "$1"; exit 1; fi`

func (c *scripted) put(ctx context.Context, to placed, r io.Reader) error {
	marker := newMarker()
	command := shellescape.QuoteCommand([]string{"/bin/sh", "-c", putScript, marker, to.temp, to.mode, to.path, fmt.Sprint(to.size)})
	out := &bounded{left: 64 << 10}
	err := c.conn.Exec(ctx, sshconn.Exec{Command: command, Stdin: r, Stdout: out})
	if strings.Contains(out.buf.String(), "\n"+marker+"\n") {
		return nil // whatever a logout script made of the exit status
	}
	name := to.path
	if name == "" {
		name = to.temp
	}
	var exit *sshconn.ExitError
	switch {
	case errors.As(err, &exit):
		said := strings.Join(strings.Fields(exit.Stderr), " ")
		f := environment("%s can't be written: %w", name, &sshconn.ExitError{Code: exit.Code, Signal: exit.Signal, Stderr: said})
		if strings.Contains(said, "No space left") || strings.Contains(said, "quota") {
			return f.WithRemedy("free some space on the host or use --prefix DIR")
		}
		return f.WithRemedy("see what the host says, or use --prefix DIR")
	case err != nil:
		return err
	}
	return environment("%s was not written, and the host does not say why (it printed %.200q)", name, strings.Join(strings.Fields(out.buf.String()), " ")).
		WithRemedy("check that the user can run /bin/sh on the host (ForceCommand, nologin)")
}

// Close implements Stager: nothing is open between two commands.
func (c *scripted) Close() error { return nil }
