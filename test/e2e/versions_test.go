//go:build linux

package e2e

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// next is the program of a time to come, made from these sources: its initiator speaks protocol versions 1 and 2, and its shim, which
// has other bytes and so another place in the cache, speaks 2 alone.
func next(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(root, "internal", "wire", "version.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const newest, oldest = "\tVersion    = 1 //", "\tMinVersion = 1 //"
	both := strings.Replace(string(text), newest, "\tVersion    = 2 //", 1)
	only := strings.Replace(both, oldest, "\tMinVersion = 2 //", 1)
	if both == string(text) || only == both {
		t.Fatalf("%s has no lines that begin with %q and %q: make this test speak of the versions that there are", source, newest, oldest)
	}
	variant := func(name, text string, replaced map[string]string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file+".go", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[source] = file + ".go"
		overlay, err := json.Marshal(map[string]any{"Replace": replaced})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".json", overlay, 0o600); err != nil {
			t.Fatal(err)
		}
		return file + ".json"
	}
	shim := goBuild(t, root, filepath.Join(dir, "shim"), "./cmd/mgmt-remote-shim", variant("only", only, map[string]string{}))
	packed := filepath.Join(dir, "shim.gz")
	pack(t, shim, packed)
	embedded := filepath.Join(root, "internal", "shimbin", "bin", "shim-linux-"+runtime.GOARCH+".gz")
	return goBuild(t, root, filepath.Join(dir, "mgmt-remote"), "./cmd/mgmt-remote", variant("both", both, map[string]string{embedded: packed}))
}

// goBuild builds a program as the Makefile does, with some of its files replaced.
func goBuild(t *testing.T, root, out, what, overlay string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-overlay", overlay, "-o", out, what)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", what, err, said)
	}
	return out
}

func pack(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	w := gzip.NewWriter(out)
	if _, err := io.Copy(w, in); err != nil {
		t.Fatal(err)
	}
	for _, c := range []io.Closer{w, out} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVersions has a newer program go on with a session whose shim is older, to its end; and an older one meet a shim that is too new
// for it, which it has to leave as it is.
func TestVersions(t *testing.T) {
	t.Parallel()
	newer := next(t)
	for name, tc := range map[string]struct {
		first  string
		tunnel []string // lines of sshd_config
	}{
		"older shim":                   {first: program},
		"older shim, tunnel over exec": {first: program, tunnel: []string{"AllowStreamLocalForwarding no"}},
		"newer shim":                   {first: newer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			h := l.add(sshd.Start(t, sshd.Options{OwnVarTmp: true, Config: tc.tunnel}))
			l.program = tc.first
			first := l.start(l.args("--json", "--keep-state", "--", publicSelf, "onceonly")...)
			run := first.runID()
			first.awaitAnyOutput("h1")
			pid := first.awaitAttached("h1", 1).PID
			first.kill()

			if tc.first == newer {
				l.program = program
				refused := l.run("resume", "--json", run)
				refused.wantCode(2)
				r := refused.wantOutcome("h1", "failed")
				if !strings.Contains(r.Reason, "protocol version") || !strings.Contains(r.Reason, "the initiator speaks 1 to 1, the shim 2 to 2") ||
					!strings.Contains(r.Remedy, "the version of mgmt-remote that started it") || r.LeftBehind == "" || r.Attempts != 1 {
					t.Errorf("%+v", r)
				}
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
					t.Errorf("the payload was harmed: %v", err)
				}
			}

			l.program = newer
			second := l.start("resume", "--json", run)
			if again := second.awaitAttached("h1", 1); again.PID != pid || !again.Reattached {
				t.Errorf("payload %d became %+v", pid, again)
			}
			second.awaitNews("h1")
			h.goOn(t)
			second.wantCode(0)
			second.wantOutcome("h1", "ok")
			h.wantOneStart(t)
			l.wantWholeLog(t, run, "h1")
			h.checkCacheOnly(t, run)
		})
	}
}
