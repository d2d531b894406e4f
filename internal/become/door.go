package become

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"al.essio.dev/pkg/shellescape"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// starter is run as the other user: it says that it does, and becomes the command that is in its arguments. The directory it comes
// from may be closed to that user; LC_ALL was for the messages of sudo.
const starter = `cd /; unset LC_ALL; echo "$0" >&2; exec "$@"`

// systemPath is what the other user finds programs in where sudo has no secure_path of its own. A sudo without one passes on what the login user
// has, who could put an ls in front of the system's. For the same reason nothing else of that user's environment gets to sudo.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/wrappers/bin:/run/current-system/sw/bin"

// silence bounds how long sudo may take until it asks or runs the command, and again after it got the password.
const silence = 20 * time.Second

// maxSaid is how much of what comes before the command is kept.
const maxSaid = 8 << 10

// door lets one command through: it answers the one question that sudo may ask, and knows when the command runs.
type door struct {
	*way
	prompt, marker string
	limit          time.Duration

	news chan struct{} // something was said; has room for one

	mu   sync.Mutex
	next io.Writer
	said []byte // before the command ran
	open bool   // it does
}

var _ sshconn.Door = (*door)(nil)

func (w *way) door() *door {
	return &door{way: w, prompt: newMarker() + ":", marker: newMarker(), limit: silence, news: make(chan struct{}, 1)}
}

// wrap makes the command line. The command is one program with its arguments, quoted for the login shell by the caller; behind the
// starter it stays so.
func (d *door) wrap(command string) string {
	argv := []string{"env", "-i", "LC_ALL=C", "PATH=" + systemPath, d.program}
	switch {
	case d.method == Doas:
		argv = append(argv, "-n", "-u", d.user)
	case d.password != nil:
		argv = append(argv, "-H", "-S", "-p", d.prompt, "-u", d.user, "--")
	default:
		argv = append(argv, "-H", "-n", "-u", d.user, "--")
	}
	argv = append(argv, "/bin/sh", "-c", starter, d.marker)
	return shellescape.QuoteCommand(argv) + " " + command
}

// Watch implements sshconn.Door.
func (d *door) Watch(next io.Writer) io.Writer {
	d.next = next
	return d
}

// Write takes standard error: until the starter has said its word it is kept, then it is the command's.
func (d *door) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open {
		return d.next.Write(p)
	}
	d.said = append(d.said, p...)
	before, after, open := bytes.Cut(d.said, []byte(d.marker+"\n"))
	if open {
		d.open, d.said = true, before
		if len(after) > 0 {
			if _, err := d.next.Write(after); err != nil {
				return 0, err
			}
		}
	} else if over := len(d.said) - maxSaid; over > 0 {
		d.said = d.said[over:]
	}
	select {
	case d.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

// heard returns what was said, without the question, and how often that came.
func (d *door) heard() (text string, asked int, open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text = string(d.said)
	return strings.ReplaceAll(text, d.prompt, ""), strings.Count(text, d.prompt), d.open
}

// Pass implements sshconn.Door. The password is sent once, and after the question that only this sudo knows.
func (d *door) Pass(ctx context.Context, ch *sshconn.Channel) error {
	limit := time.NewTimer(d.limit)
	defer limit.Stop()
	sent := false
	settled := func(verdict) {}
	for {
		text, asked, open := d.heard()
		switch {
		case open:
			settled(accepted)
			return nil
		case asked > 1:
			settled(refused)
			return d.wrong()
		case asked == 1 && !sent:
			settle, err := d.answer(ctx, ch)
			if err != nil {
				return err
			}
			sent, settled = true, settle
			limit.Reset(d.limit)
		}
		select {
		case <-d.news:
		case <-ch.Ended():
			end := ch.Wait()
			if text, asked, open = d.heard(); open {
				continue
			}
			if exit := (*sshconn.ExitError)(nil); end != nil && !errors.As(end, &exit) {
				settled(unheard)
				return end
			}
			settled(refused)
			return d.refused(text, end, asked > 0)
		case <-limit.C:
			settled(refused)
			return d.stuck(text, sent)
		case <-ctx.Done():
			settled(unheard)
			return fault.Wrap(fault.Lost, op, ctx.Err()).WithHost(d.host)
		}
	}
}

// answer sends the password, and returns whom to tell what came of it. Nothing of it is kept here.
func (d *door) answer(ctx context.Context, ch *sshconn.Channel) (settle func(verdict), err error) {
	password, settle, err := d.password.take(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Denied, op, err).WithHost(d.host)
	}
	if _, err := io.WriteString(ch, password.Reveal()+"\n"); err != nil {
		settle(unheard)
		return nil, fault.Wrap(fault.Lost, op, err).WithHost(d.host)
	}
	return settle, nil
}
