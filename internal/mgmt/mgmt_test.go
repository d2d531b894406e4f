package mgmt

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindCode(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"site.mcl", "site.yaml", "site.yml", "site.txt", "good/metadata.yaml", "bad/main.mcl"} {
		write(t, filepath.Join(dir, name), "", 0o600)
	}
	for name, want := range map[string]string{"site.mcl": "lang", "site.yaml": "yaml", "site.yml": "yaml", "good": "lang"} {
		t.Chdir(dir)
		if got, err := FindCode(name); err != nil || got != (Code{want, filepath.Join(dir, name)}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, says := range map[string]string{
		"site.txt": "site.txt: mgmt code is a .mcl file", "bad": "bad: a directory of mgmt code has a file metadata.yaml",
		"none.mcl": "none.mcl", "/dev/null": "neither a file nor a directory",
	} {
		if got, err := FindCode(name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// header makes the beginning of a 64-bit little-endian ELF file.
func header(machine, abi byte) []byte {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[7], h[16], h[18], h[20] = abi, 2, machine, 1 // EI_OSABI, e_type, e_machine, e_version
	return h
}

func TestPlatform(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want Platform
	}{
		"empty":         {nil, Platform{}},
		"script":        {[]byte("#!/bin/sh\nexit\n"), Platform{}},
		"linux amd64":   {header(62, 0), Platform{"linux", "amd64"}},
		"linux arm64":   {header(183, 3), Platform{"linux", "arm64"}},
		"freebsd amd64": {header(62, 9), Platform{"freebsd", "amd64"}},
		"other":         {header(8, 0), Platform{"linux", "mips"}},
	} {
		got, err := platformOf(bytes.NewReader(c.file))
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if p, err := platformOf(bytes.NewReader([]byte("\x7fELF and no more"))); err == nil {
		t.Errorf("half a header: %v", p)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := PlatformOf(self); err != nil || !p.Runs(runtime.GOOS, runtime.GOARCH) || p.Runs("linux", "other") {
		t.Errorf("this program: %v, %v", p, err)
	}
	if (Platform{"linux", "amd64"}).Runs("freebsd", "amd64") || !(Platform{}).Runs("any", "thing") {
		t.Error("Runs")
	}
}

func FuzzPlatform(f *testing.F) {
	f.Add(header(62, 0))
	f.Add([]byte("#!/bin/sh"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if p, err := platformOf(bytes.NewReader(file)); err == nil && (p.OS == "") != (p.Arch == "") {
			t.Errorf("half a platform: %+v", p)
		}
	})
}

// deploy runs Deploy with a shell script in the place of mgmt and returns the log.
func deploy(t *testing.T, ctx context.Context, script string, mode os.FileMode) (string, error) {
	t.Helper()
	dir := t.TempDir()
	var log bytes.Buffer
	err := Deploy(ctx, Deployment{
		Binary: write(t, filepath.Join(dir, "mgmt"), script, mode), Code: Code{"lang", "/code/site.mcl"}, Seeds: "unix:///s.sock", Noop: true,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	return log.String(), err
}

func wantFault(t *testing.T, err error, kind fault.Kind, says ...string) {
	t.Helper()
	var f *fault.Fault
	if !errors.As(err, &f) || f.Kind != kind {
		t.Fatalf("error %v", err)
	}
	for _, s := range says {
		if !strings.Contains(f.Error()+f.Remedy, s) {
			t.Errorf("%v lacks %q", f, s)
		}
	}
}

func TestDeploy(t *testing.T) {
	log, err := deploy(t, t.Context(), "#!/bin/sh\necho \"$@\"; printf 'no end' >&2\n", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"deploy --no-git --seeds=unix:///s.sock --noop lang /code/site.mcl", "no end"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
}

func TestDeployFails(t *testing.T) {
	_, err := deploy(t, t.Context(), "#!/bin/sh\nyes filler | head -n 2000; echo 'type error in line 3' >&2; exit 7\n", 0o700)
	wantFault(t, err, fault.Environment, "exit status 7", "type error in line 3", "lang /code/site.mcl", "-v")
	if len(err.Error()) > 3000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
	_, err = deploy(t, t.Context(), "#!/bin/sh\nexit 1\n", 0o700)
	wantFault(t, err, fault.Environment, "it said nothing")
	_, err = deploy(t, t.Context(), "", 0o600)
	wantFault(t, err, fault.Environment, "permission denied", "runs on this machine")
	_, err = deploy(t, t.Context(), "\x7fELF", 0o700)
	wantFault(t, err, fault.Environment, "exec format error", "runs on this machine")
}

// Who no longer wants the deploy doesn't wait for it, and mgmt is asked to end before it is killed.
func TestDeployIsCanceled(t *testing.T) {
	// Where the tests run in the background of a script, they ignore SIGINT, and so would a shell that they start. A program
	// that waits for SIGINT, as mgmt-remote does, passes the default on.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	ready := filepath.Join(t.TempDir(), "ready")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(ready); err == nil {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	log, err := deploy(t, ctx, "#!/bin/sh\ntrap 'echo asked; exit 3' INT\ntouch "+ready+"\nwhile :; do sleep 0.05; done\n", 0o700)
	wantFault(t, err, fault.Canceled)
	if !strings.Contains(log, "asked") {
		t.Errorf("mgmt was not asked: %s", log)
	}
}
