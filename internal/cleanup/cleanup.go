// Package cleanup finds and removes what dead runs left on a host: session directories whose shim is not alive, what their
// payloads left running and, on request, the cache of programs. One exec does all of it. A session that lives, or whose run
// somebody drives, is never touched unless that was asked for, and nothing outside a base directory of the user ever is.
package cleanup

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // the script
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"al.essio.dev/pkg/shellescape"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// Command is what the login shell of a host is asked to run.
const Command = "/bin/sh -s mgmt-remote-clean"

const op = "clean"

// maxAnswer bounds what a host can make us keep, in bytes.
const maxAnswer = 4 << 20

//go:embed clean.sh
var body string

// Request says what to do.
type Request struct {
	Prefix string   // looked into besides /var/tmp, $HOME/.cache and /tmp; "" = none
	Spare  []string // IDs of runs that nothing is done about
	Live   bool     // end sessions that live, too
	Cache  bool     // remove the cache where no session in its base is left
	DryRun bool     // only say what would be done
}

// Session is a session that was met on a host.
type Session struct {
	Run  string `json:"run"`
	Host string `json:"host"` // the name of its directory; a long one is shortened
	PID  int    `json:"pid,omitempty"`
	Dir  string `json:"dir"`
	Why  string `json:"why,omitempty"` // of one that was spared: "driven" (its initiator is this machine) or "young" (about to start)
}

// Removed is a directory that was removed.
type Removed struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"` // on disk
}

// Ended are processes of a dead run that were ended.
type Ended struct {
	Session string `json:"session"` // RUN/HOST
	PIDs    []int  `json:"pids"`
}

// Failed is something that was left alone, and why.
type Failed struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Result is what was found and done on a host; with Request.DryRun, what would have been.
type Result struct {
	Removed   []Removed `json:"removed,omitempty"`
	Ended     []Ended   `json:"ended,omitempty"`
	Stopped   []Session `json:"stopped,omitempty"` // lived, and were ended because of Request.Live
	Alive     []Session `json:"alive,omitempty"`
	Spared    []Session `json:"spared,omitempty"`
	CacheKept []string  `json:"cache_kept,omitempty"` // caches that sessions may still need
	Failed    []Failed  `json:"failed,omitempty"`
}

// Run cleans one host. The fault's kind is Environment when the host gave no usable answer, Canceled or what the connection
// said otherwise. What could not be removed is no error here but in Result.Failed.
func Run(ctx context.Context, conn probe.Execer, r Request) (Result, error) {
	if r.Prefix != "" {
		if err := probe.ValidPath(r.Prefix); err != nil {
			return Result{}, fault.Wrap(fault.Environment, op, err).WithRemedy("give --prefix another directory")
		}
	}
	marker := "mr" + strings.ToLower(rand.Text())
	out := &limited{}
	execErr := conn.Exec(ctx, sshconn.Exec{Command: Command, Stdin: strings.NewReader(script(marker, r)), Stdout: out})
	var exit *sshconn.ExitError
	if execErr != nil && !errors.As(execErr, &exit) {
		f := fault.Wrap(fault.Lost, op, execErr)
		f.Op = op
		return Result{}, f
	}
	result, err := parse(marker, out.Bytes())
	if err != nil {
		return Result{}, fault.Wrap(fault.Environment, op, err).
			WithRemedy("check that the user can run /bin/sh on the host (ForceCommand, nologin)")
	}
	return result, nil
}

func script(marker string, r Request) string {
	var b strings.Builder
	for _, v := range [...]struct{ name, value string }{
		{"marker", marker}, {"prefix", r.Prefix}, {"spare", strings.Join(r.Spare, " ")},
		{"live", strconv.FormatBool(r.Live)}, {"cache", strconv.FormatBool(r.Cache)}, {"dry", strconv.FormatBool(r.DryRun)},
	} {
		fmt.Fprintf(&b, "%s=%s\n", v.name, shellescape.Quote(v.value))
	}
	b.WriteString(body)
	return b.String()
}

// parse reads the answer between the markers.
func parse(marker string, out []byte) (Result, error) {
	text := "\n" + strings.ReplaceAll(string(out), "\r\n", "\n")
	_, text, begun := strings.Cut(text, "\n"+marker+" BEGIN\n")
	text, _, ended := strings.Cut("\n"+text, "\n"+marker+" END\n")
	if !begun || !ended {
		return Result{}, fmt.Errorf("the login shell printed %.200q instead of a whole answer", strings.Join(strings.Fields(string(out)), " "))
	}
	var r Result
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		if err := r.take(line); err != nil {
			return Result{}, fmt.Errorf("the answer has the line %.200q: %w", line, err)
		}
	}
	return r, nil
}

var errWords = errors.New("not the words that belong there")

// take reads one line. Nothing that could do something to a terminal is kept.
func (r *Result) take(line string) error {
	key, value, _ := strings.Cut(line, "=")
	path, reason, tab := strings.Cut(value, "\t")
	if strings.ContainsFunc(path+reason, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return errors.New("it is not plain text")
	}
	words := strings.Split(value, " ")
	switch {
	case key == "failed" && tab:
		r.Failed = append(r.Failed, Failed{Path: path, Reason: strings.TrimSpace(reason)})
	case key == "removed" && len(words) == 2:
		kib, err := strconv.ParseInt(words[0], 10, 53)
		if err != nil || kib < 0 {
			return fmt.Errorf("%q is no size", words[0])
		}
		r.Removed = append(r.Removed, Removed{Path: words[1], Bytes: kib << 10})
	case key == "ended" && len(words) > 1:
		e := Ended{Session: words[0]}
		for _, word := range words[1:] {
			pid, err := strconv.Atoi(strings.TrimPrefix(word, "-")) // a group is named by its leader
			if err != nil {
				return err
			}
			e.PIDs = append(e.PIDs, pid)
		}
		r.Ended = append(r.Ended, e)
	case (key == "alive" || key == "stopped") && len(words) == 4:
		pid, err := strconv.Atoi(words[2])
		if err != nil {
			return err
		}
		to := &r.Alive
		if key == "stopped" {
			to = &r.Stopped
		}
		*to = append(*to, Session{Run: words[0], Host: words[1], PID: pid, Dir: words[3]})
	case key == "spared" && len(words) == 4:
		r.Spared = append(r.Spared, Session{Run: words[0], Host: words[1], Why: words[2], Dir: words[3]})
	case key == "cache_kept":
		r.CacheKept = append(r.CacheKept, value)
	default:
		return errWords
	}
	return nil
}

// limited keeps the last bytes written to it: the answer comes after the noise.
type limited struct{ buf bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.buf.Write(p)
	if l.buf.Len() > 2*maxAnswer {
		l.buf.Next(l.buf.Len() - maxAnswer)
	}
	return len(p), nil
}

// Bytes returns what was kept.
func (l *limited) Bytes() []byte { return l.buf.Bytes() }
