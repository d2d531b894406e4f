package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// aptManager is apt-get(8) and dpkg(1). Recommended packages are installed or not as apt is configured; configuration files
// that were changed here stay as they are.
type aptManager struct{}

// aptEnv keeps maintainer scripts from asking.
var aptEnv = []string{"DEBIAN_FRONTEND=noninteractive", "APT_LISTCHANGES_FRONTEND=none", "UCF_FORCE_CONFFOLD=1"}

func (aptManager) database() string { return "/var/lib/dpkg/status" }

func (aptManager) state(ctx context.Context, name string) (pkgState, error) {
	answer, err := ask(ctx, "dpkg-query", "-W", "-f=${db:Status-Status} ${Version}\n", "--", name)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // dpkg-query(1): no such package
		return pkgState{}, nil
	}
	if err != nil {
		return pkgState{}, err
	}
	return parseDpkg(answer), nil
}

// parseDpkg reads lines of a status (dpkg(1), "Package states") and a version.
func parseDpkg(answer string) pkgState {
	var s pkgState
	for line := range strings.Lines(answer) {
		status, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch status {
		case "", "not-installed", "config-files":
		case "installed", "triggers-awaited", "triggers-pending":
			s.versions = append(s.versions, version)
		default:
			s.broken = status
		}
	}
	return s
}

func (aptManager) upgrade(ctx context.Context, name string, have pkgState) (string, error) {
	answer, err := ask(ctx, "apt-cache", "policy", "--", name)
	if err != nil {
		return "", err
	}
	candidate := parsePolicy(answer)
	if candidate == "" {
		return "", nil
	}
	for _, version := range have.versions {
		if higher, err := (aptManager{}).higher(ctx, candidate, version); err != nil || higher {
			return candidate, err
		}
	}
	return "", nil
}

// parsePolicy reads the candidate from the answer of `apt-cache policy`; "" if there is none.
func parsePolicy(answer string) string {
	for line := range strings.Lines(answer) {
		if version, found := strings.CutPrefix(strings.TrimSpace(line), "Candidate:"); found {
			if version = strings.TrimSpace(version); version != "(none)" {
				return version
			}
			return ""
		}
	}
	return ""
}

func (aptManager) higher(ctx context.Context, a, b string) (bool, error) {
	_, err := ask(ctx, "dpkg", "--compare-versions", a, "gt", b)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // dpkg(1): it is not so
		return false, nil
	}
	return err == nil, err
}

func (aptManager) matches(installed, declared string) bool { return installed == declared }

// lists has the directory that each update works in, but only while there are lists: container images come without.
func (aptManager) lists() (files, sources []string) {
	if indexes, err := filepath.Glob("/var/lib/apt/lists/*_*"); err == nil && len(indexes) > 0 {
		files = []string{"/var/lib/apt/lists/partial"}
	}
	return files, []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/apt/sources.list.d/*"}
}

func (aptManager) update(ctx context.Context, spec *graph.Pkg) (string, error) {
	argv := []string{"apt-get", "-q", "update"}
	if spec.AllowUntrusted {
		argv = append(argv, "--allow-insecure-repositories")
	}
	return act(ctx, aptLocked, aptEnv, argv...)
}

func (m aptManager) install(ctx context.Context, spec *graph.Pkg, name, version string) (string, error) {
	argv := []string{"install"}
	if spec.AllowDowngrade && spec.State == version {
		argv = append(argv, "--allow-downgrades")
	}
	if spec.AllowUntrusted {
		argv = append(argv, "--allow-unauthenticated")
	}
	if version != "" {
		name += "=" + version
	}
	return m.change(ctx, append(argv, "--", name)...)
}

func (m aptManager) remove(ctx context.Context, name string) (string, error) {
	return m.change(ctx, "remove", "--", name)
}

// change runs apt-get. Without a terminal of its own dpkg belongs to the process group that ctx ends.
func (m aptManager) change(ctx context.Context, args ...string) (string, error) {
	if out, err := m.recover(ctx); err != nil {
		return out, err
	}
	argv := []string{"apt-get", "-y", "-q", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"}
	return act(ctx, aptLocked, aptEnv, append(argv, args...)...)
}

// recover completes what dpkg was interrupted at, which it refuses to work before. That may have been we, when ctx ended.
func (aptManager) recover(ctx context.Context) (string, error) {
	journal, err := filepath.Glob("/var/lib/dpkg/updates/[0-9]*") // has files while dpkg works, or after it was interrupted
	if err != nil || len(journal) == 0 {
		return "", err
	}
	out, err := act(ctx, aptLocked, aptEnv, "dpkg", "--force-confold", "--configure", "-a")
	if err != nil {
		return out, fmt.Errorf("dpkg was interrupted earlier, and can't complete that: %w", err)
	}
	return out, nil
}

// aptLocked knows what apt and dpkg say when another one is at work. Without the right to lock they say the same, and why.
func aptLocked(output string) bool {
	if strings.Contains(output, "are you root?") || strings.Contains(output, "Permission denied") {
		return false
	}
	for _, words := range []string{"Could not get lock ", "Unable to acquire the dpkg frontend lock", "Unable to lock ", " locked by another process"} {
		if strings.Contains(output, words) {
			return true
		}
	}
	return false
}
