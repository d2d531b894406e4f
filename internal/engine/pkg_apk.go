package engine

import (
	"context"
	"errors"
	"os/exec"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// apkManager is apk(8) of Alpine. A version is written to /etc/apk/world with the name, so that apk keeps it, too.
type apkManager struct{}

func (apkManager) database() string { return "/lib/apk/db/installed" }

func (apkManager) state(ctx context.Context, name string) (pkgState, error) {
	answer, err := ask(ctx, "apk", "info", "-e", "-v", name)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 && strings.TrimSpace(answer) == "" { // it is not installed
		return pkgState{}, nil
	}
	if err != nil {
		return pkgState{}, err
	}
	return parseApkInfo(answer, name), nil
}

// parseApkInfo reads a line of name and version, with a hyphen between. apk also answers for what provides the name: that
// is another package.
func parseApkInfo(answer, name string) pkgState {
	for line := range strings.Lines(answer) {
		version, found := strings.CutPrefix(strings.TrimSpace(line), name+"-")
		if found && version != "" && version[0] >= '0' && version[0] <= '9' {
			return pkgState{versions: []string{version}}
		}
	}
	return pkgState{}
}

func (apkManager) upgrade(ctx context.Context, name string, have pkgState) (string, error) {
	answer, err := ask(ctx, "apk", "version", "-l", "<", name)
	if err != nil {
		return "", err
	}
	return parseApkVersion(answer, name, have), nil
}

// parseApkVersion reads the newer version from a line such as `curl-8.5.0-r0 < 8.9.1-r1`.
func parseApkVersion(answer, name string, have pkgState) string {
	for line := range strings.Lines(answer) {
		words := strings.Fields(line)
		if len(words) == 3 && words[1] == "<" && words[0] == name+"-"+have.String() {
			return words[2]
		}
	}
	return ""
}

func (apkManager) higher(ctx context.Context, a, b string) (bool, error) {
	answer, err := ask(ctx, "apk", "version", "-t", a, b)
	return strings.TrimSpace(answer) == ">", err
}

func (apkManager) matches(installed, declared string) bool { return installed == declared }

// lists has the caches of indexes. Their times may be the server's: then they only seem older than they are.
func (apkManager) lists() (files, sources []string) {
	return []string{"/var/cache/apk/APKINDEX.*", "/etc/apk/cache/APKINDEX.*"}, []string{"/etc/apk/repositories", "/etc/apk/repositories.d/*"}
}

func (m apkManager) update(ctx context.Context, spec *graph.Pkg) (string, error) {
	return m.change(ctx, spec, "update")
}

func (m apkManager) install(ctx context.Context, spec *graph.Pkg, name, version string) (string, error) {
	if spec.State != graph.PkgNewest && version != "" {
		name += "=" + version
	}
	return m.change(ctx, spec, "add", "-u", name)
}

func (m apkManager) remove(ctx context.Context, name string) (string, error) {
	return m.change(ctx, &graph.Pkg{}, "del", name)
}

func (apkManager) change(ctx context.Context, spec *graph.Pkg, args ...string) (string, error) {
	argv := []string{"apk", "--no-progress"}
	if spec.AllowUntrusted {
		argv = append(argv, "--allow-untrusted")
	}
	return act(ctx, apkLocked, nil, append(argv, args...)...)
}

// apkLocked knows what apk says when another one is at work.
func apkLocked(output string) bool {
	return strings.Contains(output, "Unable to lock database") && !strings.Contains(output, "Permission denied")
}
