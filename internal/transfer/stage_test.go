package transfer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// login runs command lines on this machine as a login shell does.
type login []string

func (l login) Subsystem(context.Context, string) (*sshconn.Channel, error) {
	return nil, fault.New(fault.Environment, "start sftp", "the server refused the subsystem request")
}

func (l login) Exec(ctx context.Context, e sshconn.Exec) error {
	args := append(append([]string{}, l...), e.Command)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &sshconn.ExitError{Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return err
}

var logins = map[string]login{
	"dash": {"dash", "-c"}, "bash": {"bash", "-c"}, "busybox": {"busybox", "sh", "-c"}, "fish": {"fish", "-c"}, "tcsh": {"tcsh", "-c"},
	"no environment": {"env", "-i", "dash", "-c"},
}

func TestStageFromEveryLoginShell(t *testing.T) {
	for name, l := range logins {
		t.Run(name, func(t *testing.T) {
			s := newSession(t)
			blob, data := program(t, 300_000, true)
			files := []File{{Name: "a.json", Data: []byte("{\"a\": 'b $c !d'}\n\n")}, {Name: "empty"}, {Name: "run", Data: []byte("x"), Mode: 0o755}}
			result, err := stage(t.Context(), l, s, CopyRequest{Blobs: []*Blob{blob}, Files: files, Gzip: true})
			if err != nil {
				t.Fatal(err)
			}
			dir := probe.SessionDir(s.Base, s.Run, s.Host)
			same(t, result.Paths[blob.SHA256], data)
			for _, f := range files {
				same(t, dir+"/"+f.Name, f.Data)
			}
			if info, err := os.Stat(dir + "/run"); err != nil || info.Mode() != 0o700 {
				t.Errorf("%v, %v", info, err)
			}
			private(t, s.Base)
		})
	}
}

// What breaks off on its way is not taken for the whole, and never gets the name.
func TestHalfAFileIsNone(t *testing.T) {
	s := newSession(t)
	c := &scripted{conn: login{"dash", "-c"}}
	dir, err := c.MakeSession(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	to := placed{temp: tempName(dir), mode: "600", path: dir + "/graph.yaml", size: 10}
	if err := c.put(t.Context(), to, strings.NewReader("0123456789")); err != nil {
		t.Fatal(err)
	}
	to.temp = tempName(dir)
	if err := c.put(t.Context(), to, strings.NewReader("abc")); fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "not all of it arrived") {
		t.Errorf("%v", err)
	}
	same(t, dir+"/graph.yaml", []byte("0123456789"))
	private(t, s.Base)

	// Nor is anything written over that is there under the temporary name.
	to.temp = dir + "/graph.yaml"
	if err := c.put(t.Context(), to, strings.NewReader("9876543210")); fault.KindOf(err) != fault.Environment {
		t.Errorf("%v", err)
	}
}

// A broken copy's leavings go with the next one.
func TestStageSweeps(t *testing.T) {
	s := newSession(t)
	dir := probe.SessionDir(s.Base, s.Run, s.Host)
	left := tempName(dir)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(left, []byte("x"), 0o600), os.WriteFile(dir+"/keep", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t.Context(), login{"busybox", "sh", "-c"}, s, CopyRequest{}); err != nil {
		t.Fatal(err)
	}
	if got, err := filepath.Glob(dir + "/*"); err != nil || len(got) != 1 || got[0] != dir+"/keep" {
		t.Errorf("%q, %v", got, err)
	}
	private(t, s.Base)
}
