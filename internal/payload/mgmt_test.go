package payload

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

func TestMgmt(t *testing.T) {
	self, err := os.Executable() // a program for this platform
	if err != nil {
		t.Fatal(err)
	}
	p := newPayload(t, Options{Kind: Mgmt, Binary: self, Noop: true, Env: []string{"A={{.Host}}", "TMPDIR=/elsewhere"}})
	got, spec := plan(t, p, request())
	dir := base + "/run12345/h1"
	if len(got.Copy.Blobs) != 2 || len(got.Copy.Files) != 1 {
		t.Fatalf("copied are %+v and %+v", got.Copy.Blobs, got.Copy.Files)
	}
	want := []string{
		base + "/cache/" + got.Copy.Blobs[1].Key(), "run", "--hostname=h1", "--tmp-prefix", "--no-pgp", "--no-server", "--seeds=" + spec.EndpointMark,
		"--converged-timeout=1", "--converged-timeout-no-exit", "--converged-status-file=" + dir + "/converged", "--noop", "empty",
	}
	if !slices.Equal(spec.Argv, want) {
		t.Errorf("argv %q\nwant %q", spec.Argv, want)
	}
	if spec.StatusFile != dir+"/converged" || spec.Endpoint != wire.EndpointUnix {
		t.Errorf("spec %+v", spec)
	}
	if want := []string{"TMPDIR=" + dir, "A=h1", "TMPDIR=/elsewhere"}; !slices.Equal(spec.Env, want) { // the last one counts
		t.Errorf("env %q", spec.Env)
	}
	if _, spec := plan(t, newPayload(t, Options{Kind: Mgmt, Binary: self}), request()); slices.Contains(spec.Argv, "--noop") {
		t.Errorf("argv %q", spec.Argv)
	}
}

func TestMgmtForAnotherPlatform(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "mgmt.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := request()
	r.Facts.OS, r.Facts.Arch = "linux", "arm64"
	if runtime.GOARCH == "arm64" {
		r.Facts.Arch = "amd64"
	}
	_, err = newPayload(t, Options{Kind: Mgmt, Binary: self}).Plan(r)
	var f *fault.Fault
	want := "mgmt is built for " + runtime.GOOS + "/" + runtime.GOARCH + ", the host is linux/" + r.Facts.Arch
	if !errors.As(err, &f) || f.Kind != fault.Environment || !strings.Contains(f.Error(), want) || f.Remedy == "" {
		t.Errorf("%v, want %q", err, want)
	}
	// What a script starts is its own business; only the shim must be there.
	if _, err := newPayload(t, Options{Kind: Mgmt, Binary: script}).Plan(request()); err != nil {
		t.Error(err)
	}
}

func TestMgmtIsNeeded(t *testing.T) {
	for name, c := range map[string]struct{ binary, says string }{
		"none":      {"", "needs mgmt itself"},
		"not there": {"/nonexistent/mgmt", "/nonexistent/mgmt"},
	} {
		if p, err := New(Options{Kind: Mgmt, Binary: c.binary}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v %v", name, p, err)
		}
	}
}
