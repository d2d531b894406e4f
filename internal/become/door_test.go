package become

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// dial connects to a server in this process that really executes commands.
func dial(t *testing.T) *sshconn.Conn {
	t.Helper()
	_, again := serve(t)
	return again(t)
}

// serve starts such a server and returns what connects to it.
func serve(t *testing.T) (*sshfleet.Host, func(*testing.T) *sshconn.Conn) {
	t.Helper()
	servers, err := sshfleet.New(sshfleet.Options{Dir: t.TempDir(), Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	auth, err := sshconn.NewAuth(sshconn.AuthOptions{Identities: []string{servers.KeyFile()}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sshconn.NewHostKeys(sshconn.HostKeyOptions{Files: []string{servers.KnownHostsFile()}})
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := sshconn.NewDialer(sshconn.Options{Auth: auth, HostKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	h := servers.Hosts()[0]
	return h, func(t *testing.T) *sshconn.Conn {
		t.Helper()
		conn, err := dialer.Dial(t.Context(), inventory.Host{Name: "h1", Addr: "127.0.0.1", Port: h.Port(), User: h.User()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// fakeSudo writes a sudo of the test's making. In it, $prompt is what it was told to ask with, and run runs the command.
func fakeSudo(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sudo")
	script := `#!/bin/sh
prompt=
while [ $# -gt 0 ]; do
	case $1 in
	-p) prompt=$2; shift 2 ;;
	-u) shift 2 ;;
	--) shift; break ;;
	*) shift ;;
	esac
done
ask() { printf %s "$prompt" >&2; read -r answer; }
run() { exec "$@"; }
` + body
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// exec runs a command through a door whose limit counts from when something was said: this machine may be slow to start programs.
func (w *way) exec(t *testing.T, e sshconn.Exec, limit time.Duration, said string) error {
	t.Helper()
	d := w.door()
	d.limit = limit
	e.Command, e.Door = d.wrap(e.Command), begun{d, said}
	return w.conn.Exec(t.Context(), e)
}

// begun is a door that is passed when something was said, or asked.
type begun struct {
	*door
	said string
}

func (b begun) Pass(ctx context.Context, ch *sshconn.Channel) error {
	for {
		if text, asked, open := b.heard(); strings.Contains(text, b.said) || asked > 0 || open {
			return b.door.Pass(ctx, ch)
		}
		select {
		case <-b.news:
		case <-ch.Ended():
			return b.door.Pass(ctx, ch)
		}
	}
}

const long = time.Minute

// short is how long a sudo that goes on with nothing is waited for, after what it says before.
const short = 300 * time.Millisecond

func TestCommandsPass(t *testing.T) {
	conn := dial(t)
	for name, body := range map[string]string{
		"no question":             `run "$@"`,
		"a question":              `ask; [ "$answer" = "pass word" ] || exit 1; run "$@"`,
		"a question after noise":  `echo lecture >&2; sleep 0.1; ask; [ "$answer" = "pass word" ] && echo thanks >&2 && run "$@"`,
		"much noise":              `i=0; while [ $i -lt 3000 ]; do echo "noise $i" >&2; i=$((i+1)); done; run "$@"`,
		"the question in pieces":  `printf %.5s "$prompt" >&2; sleep 0.1; printf %s "${prompt#?????}" >&2; read -r answer; [ "$answer" = "pass word" ] && run "$@"`,
		"a question not for long": `ask; sleep 0.2; run "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			w := &way{conn: conn, host: "h1", login: "ann", user: "bob", method: Sudo, program: fakeSudo(t, body), password: NewPasswords().For("h1", secret("pass word"))}
			var stdout, stderr bytes.Buffer
			e := sshconn.Exec{Command: `/bin/sh -c 'cat; echo error >&2; pwd; exit 3' 'a b'`, Stdin: strings.NewReader("input\nof two lines\n"), Stdout: &stdout, Stderr: &stderr}
			err := w.exec(t, e, long, "")
			var exit *sshconn.ExitError
			if !errors.As(err, &exit) || exit.Code != 3 {
				t.Errorf("%v", err)
			}
			if stdout.String() != "input\nof two lines\n/\n" || stderr.String() != "error\n" {
				t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
			}
			// The same as a stream.
			ch, err := w.Open(t.Context(), "/bin/sh -c 'echo error >&2; cat'")
			if err != nil {
				t.Fatal(err)
			}
			_, werr := io.WriteString(ch, "hello")
			if err := errors.Join(werr, ch.CloseWrite()); err != nil {
				t.Error(err)
			}
			if out, err := io.ReadAll(ch); err != nil || string(out) != "hello" {
				t.Errorf("%q, %v", out, err)
			}
			if err := ch.Wait(); err != nil || ch.StderrTail() != "error\n" {
				t.Errorf("%v, %q", err, ch.StderrTail())
			}
		})
	}
}

// A sudo that does not do what it should costs a fault in time, and the password at most once, and only where it was asked for.
func TestCommandsThatDoNotPass(t *testing.T) {
	conn := dial(t)
	for name, tc := range map[string]struct {
		body  string
		kind  fault.Kind
		text  string
		sent  int // passwords that it got
		limit time.Duration
		said  string // what comes before the limit counts
	}{
		"wrong password":            {`ask; note "$answer"; echo 'Sorry, try again.' >&2; ask; note "$answer"; exit 1`, fault.Denied, "wrong", 1, long, ""},
		"wrong password, one try":   {`ask; note "$answer"; echo 'sudo: 1 incorrect password attempt' >&2; exit 1`, fault.Denied, "wrong", 1, long, ""},
		"another question":          {`printf 'Verification code: ' >&2; read -r answer; note "$answer"`, fault.Denied, "Verification code:", 0, short, "code:"},
		"a second factor":           {`ask; note "$answer"; printf 'Verification code: ' >&2; read -r answer; note "$answer"`, fault.Denied, "after it got the password", 1, 5 * time.Second, "nothing but the question"}, // it has so long to ask again
		"silence":                   {`read -r answer; note "$answer"`, fault.Lost, "neither runs the command nor asks", 0, short, ""},
		"silence after the answer":  {`ask; note "$answer"; read -r more; note "$more"`, fault.Denied, "does not answer", 1, short, "nothing but the question"},
		"a question like ours":      {`printf 'mr0123456789:' >&2; read -r answer; note "$answer"`, fault.Denied, "mr0123456789", 0, short, "mr0123456789:"},
		"the end":                   {`exit 0`, fault.Environment, "did not run the command", 0, long, ""},
		"a command that is not run": {`echo 'sudo: a password is required' >&2; exit 1`, fault.Denied, "wants a password", 0, long, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			password := NewPasswords().For("h1", secret("pw"))
			w := &way{conn: conn, host: "h1", login: "ann", user: "bob", method: Sudo, program: fakeSudo(t, fmt.Sprintf("cd '%s' || exit 1\ntrap '' PIPE; trap 'echo >>ends' 0\nnote() { [ -z \"$1\" ] || echo \"$1\" >>got; }\n%s", dir, tc.body)), password: password}
			for range 2 { // an actor that is started again does the same once more
				err := w.exec(t, sshconn.Exec{Command: "/bin/sh -c 'echo ran >>" + dir + "/got'", Stdin: strings.NewReader("input\n")}, tc.limit, tc.said)
				var f *fault.Fault
				if !errors.As(err, &f) || f.Kind != tc.kind || f.Host != "h1" {
					t.Errorf("%v, want %v", err, tc.kind)
				} else if text := f.Error(); !strings.Contains(text, tc.text) && !strings.Contains(text, "not sent again") {
					t.Errorf("%q, want %q", text, tc.text)
				} else if strings.Contains(text, "pw") {
					t.Errorf("the password is in %q", text)
				}
			}
			awaitEnds(t, filepath.Join(dir, "ends"), 2)
			got, err := os.ReadFile(filepath.Join(dir, "got"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if want := strings.Repeat("pw\n", tc.sent); string(got) != want {
				t.Errorf("sudo got %q, want %q", got, want)
			}
		})
	}
}

// awaitEnds waits until so many sudos have ended: what they had got they have noted by then.
func awaitEnds(t *testing.T, file string, want int) {
	t.Helper()
	for deadline := time.Now().Add(long); ; time.Sleep(10 * time.Millisecond) {
		ends, err := os.ReadFile(file)
		if err == nil && bytes.Count(ends, []byte("\n")) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("ends of sudo: %q, %v; want %d", ends, err, want)
		}
	}
}

// Where the connection went with the password nobody knows whether that was right: it may be sent again.
func TestConnectionLostAtTheDoor(t *testing.T) {
	conn := dial(t)
	password := NewPasswords().For("h1", func(context.Context) (inventory.Secret, error) {
		return "pw", conn.Close()
	})
	w := &way{conn: conn, host: "h1", login: "ann", user: "bob", method: Sudo, program: fakeSudo(t, `ask; exec sleep 100`), password: password}
	if err := w.exec(t, sshconn.Exec{Command: "true"}, long, ""); err == nil || fault.KindOf(err) == fault.Denied {
		t.Errorf("%v", err)
	}
	_, settle, err := password.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	settle(accepted)
}

func TestWrappedLine(t *testing.T) {
	for method, want := range map[string]string{
		Sudo: "env -i LC_ALL=C PATH=" + systemPath + " /usr/bin/sudo -H -n -u bob -- /bin/sh -c '" + starter + "' MARKER /bin/sh -s probe",
		Doas: "env -i LC_ALL=C PATH=" + systemPath + " /usr/bin/doas -n -u bob /bin/sh -c '" + starter + "' MARKER /bin/sh -s probe",
	} {
		d := (&way{user: "bob", method: method, program: "/usr/bin/" + method}).door()
		if got := strings.ReplaceAll(d.wrap("/bin/sh -s probe"), d.marker, "MARKER"); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
