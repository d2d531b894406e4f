package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// What the login shell of a host is asked to run.
const (
	InstallCommand = "/bin/sh -s mgmt-remote-install"
	RemoveCommand  = "/bin/sh -s mgmt-remote-remove"
)

//go:embed install.sh
var installScript string

//go:embed remove.sh
var removeScript string

// Finish is the second half of step 3: unpack, verify, rename, in one exec. The client that made pending is closed before. With
// nothing to do nothing is executed.
func Finish(ctx context.Context, conn Conn, pending []Install) error {
	const op = "copy"
	if len(pending) == 0 {
		return nil
	}
	var script strings.Builder
	script.WriteString(installScript)
	script.WriteString("main() {\n")
	for _, p := range pending {
		packed := "plain"
		if p.Gzip {
			packed = "gzip"
		}
		script.WriteString(shellescape.QuoteCommand([]string{"install", p.Temp, p.Path, p.SHA256, packed}) + "\n")
	}
	script.WriteString("}\n")
	answers, err := ask(ctx, conn, InstallCommand, script.String())
	if err != nil {
		return wrapAsk(op, err)
	}
	if len(answers) != len(pending) {
		return fault.New(fault.Environment, op, "the host answered %d times for %d files", len(answers), len(pending))
	}
	for i, answer := range answers {
		if err := installed(pending[i], answer); err != nil {
			return fault.Wrap(fault.Environment, op, err)
		}
	}
	return nil
}

// installed makes an error of one answer of the script.
func installed(p Install, answer string) error {
	word, said, _ := strings.Cut(answer, " ")
	switch word {
	case "ok":
		return nil
	case "hash":
		return environment("%s has another hash than what was sent; it was removed", p.Path).
			WithRemedy("check the host's disk and memory, and that the source was not changed meanwhile")
	case "tool":
		return environment("the host has no program to verify %s", p.Path).
			WithRemedy("install one of sha256sum, shasum, sha256, openssl")
	}
	f := environment("%s can't be put into place: %s", p.Path, strings.TrimSpace(said))
	if strings.Contains(said, "No space left") || strings.Contains(said, "quota") {
		return f.WithRemedy("free some space on the host or use --prefix DIR")
	}
	return f.WithRemedy("see what the host says, or use --prefix DIR")
}

// Remove is step 8 where no shim is alive: the session directory goes, then the run's and the base where they are empty. A directory that
// is not there is fine. A live shim, or a base that is not what this project makes, is an Environment fault and nothing is removed.
func Remove(ctx context.Context, conn Conn, s Session) error {
	const op = "clean up"
	dir, err := s.check(op)
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, v := range [...]struct{ name, value string }{{"base", s.Base}, {"run", s.Run}, {"name", path.Base(dir)}, {"begun", beginning(s)}} {
		fmt.Fprintf(&script, "%s=%s\n", v.name, shellescape.Quote(v.value))
	}
	script.WriteString(removeScript)
	answers, err := ask(ctx, conn, RemoveCommand, script.String())
	if err != nil {
		return wrapAsk(op, err).WithHost(s.Host)
	}
	if len(answers) != 1 {
		return fault.New(fault.Environment, op, "the host answered %q", answers).WithHost(s.Host)
	}
	switch word, said, _ := strings.Cut(answers[0], " "); word {
	case "ok":
		return nil
	case "live":
		return fault.New(fault.Environment, op, "a shim (process %s) still runs in %s", said, dir).WithHost(s.Host).
			WithRemedy("finish that session first")
	default:
		return fault.New(fault.Environment, op, "%s can't be removed: %s", dir, strings.TrimSpace(said)).WithHost(s.Host).
			WithRemedy("remove it by hand")
	}
}

// ask runs a script whose function main answers in lines, and returns them.
func ask(ctx context.Context, conn Conn, command, script string) ([]string, error) {
	marker := newMarker()
	// The function's input is not the script's.
	script += fmt.Sprintf("printf '\\n%s\\n'\nmain </dev/null\necho %s\n", marker, marker)
	script = "{\n" + script + "exit\n}\n" // read to its end before it is run
	out := &bounded{left: 64 << 10}
	err := conn.Exec(ctx, sshconn.Exec{Command: command, Stdin: strings.NewReader(script), Stdout: out})
	var exit *sshconn.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	if answers, ok := between(marker, out.buf.String()); ok {
		return answers, nil
	}
	said := strings.Join(strings.Fields(out.buf.String()), " ")
	if exit != nil {
		return nil, environment("the login shell printed %.200q instead of an answer: %w", said, exit)
	}
	return nil, environment("the login shell printed %.200q instead of an answer", said)
}

// newMarker is random, so that nothing else in an output can be it.
func newMarker() string { return "mr" + strings.ToLower(rand.Text()) }

// between returns the lines between the markers; what stands before and after them is noise of the login shell.
func between(marker, out string) (lines []string, ok bool) {
	_, text, begun := strings.Cut(strings.ReplaceAll(out, "\r\n", "\n"), "\n"+marker+"\n")
	text, _, ended := strings.Cut("\n"+text, "\n"+marker+"\n")
	if !begun || !ended {
		return nil, false
	}
	return strings.Split(strings.TrimPrefix(text, "\n"), "\n"), true
}

func wrapAsk(op string, err error) *fault.Fault {
	f := fault.Wrap(fault.Lost, op, err)
	f.Op = op // what was attempted for a person; the connection only knows "run"
	return f
}

// bounded keeps so many bytes and swallows the rest, so that a host can't fill our memory.
type bounded struct {
	buf  bytes.Buffer
	left int
}

var _ io.Writer = (*bounded)(nil)

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.buf.Write(p[:n])
	b.left -= n
	return len(p), nil
}
