package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// rpmManager is dnf(8), or its predecessor yum(8), with rpm(8). Weak dependencies are installed or not as dnf is
// configured. Versions are [EPOCH:]VERSION[-RELEASE]; without a release any release of that version will do.
type rpmManager struct {
	tool string // dnf or yum
}

// rpmDatabases are the files that distributions have the database in, the newest first. Their directory is not watched:
// files beside them come and go with each question.
var rpmDatabases = []string{
	"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/Packages.db", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages.db", "/var/lib/rpm/Packages",
}

func (rpmManager) database() string {
	for _, path := range rpmDatabases {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return rpmDatabases[0]
}

func (rpmManager) state(ctx context.Context, name string) (pkgState, error) {
	answer, err := ask(ctx, "rpm", "-q", "--qf", `%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\n`, "--", name)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 && strings.Contains(answer, "is not installed") {
		return pkgState{}, nil
	}
	if err != nil {
		return pkgState{}, err
	}
	return pkgState{versions: strings.Fields(answer)}, nil
}

func (m rpmManager) upgrade(ctx context.Context, name string, _ pkgState) (string, error) {
	answer, err := ask(ctx, m.tool, "-q", "-C", "check-update", name)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 100 { // dnf(8): there are updates
		return parseUpdates(answer, name), nil
	}
	if err != nil && strings.Contains(err.Error(), "no cache") {
		return "", nil // nothing is known about some repository yet
	}
	return "", err
}

// parseUpdates reads the version of a package from the answer of `dnf check-update`, which has lines of name.arch, version
// and repository. yum breaks lines that are too long for a terminal, so these are read word by word.
func parseUpdates(answer, name string) string {
	words := strings.Fields(answer)
	for i, word := range words {
		if word == "Obsoleting" { // what follows replaces other packages, and is not about name
			break
		}
		dot := strings.LastIndexByte(word, '.')
		if dot > 0 && (word == name || word[:dot] == name) && i+1 < len(words) {
			return words[i+1]
		}
	}
	return ""
}

func (rpmManager) higher(ctx context.Context, a, b string) (bool, error) {
	// Both come without characters that Lua or rpm would take for more than text: see packageVersion.
	answer, err := ask(ctx, "rpm", "--eval", fmt.Sprintf(`%%{lua: print(rpm.vercmp("%s", "%s"))}`, withEpoch(a), withEpoch(b)))
	if err != nil {
		return false, err
	}
	switch strings.TrimSpace(answer) {
	case "1":
		return true, nil
	case "0", "-1":
		return false, nil
	}
	return false, fmt.Errorf("rpm can't compare versions %s and %s: it says %q", a, b, answer)
}

// withEpoch writes the epoch that a version has, if it gives none.
func withEpoch(version string) string {
	if strings.Contains(version, ":") {
		return version
	}
	return "0:" + version
}

func (rpmManager) matches(installed, declared string) bool {
	installed, declared = withEpoch(installed), withEpoch(declared)
	version, _, _ := strings.Cut(installed, "-")
	return declared == installed || declared == version
}

// lists has the caches of dnf 4, dnf 5 and yum. They get a new time when a repository was asked.
func (rpmManager) lists() (files, sources []string) {
	files = []string{"/var/cache/dnf/*/repodata/*primary*", "/var/cache/libdnf5/*/repodata/*primary*", "/var/cache/yum/*/*/*/*primary*"}
	return files, []string{"/etc/yum.repos.d", "/etc/yum.repos.d/*"}
}

func (m rpmManager) update(ctx context.Context, _ *graph.Pkg) (string, error) {
	if out, err := m.change(ctx, "clean", "expire-cache"); err != nil {
		return out, err
	}
	return m.change(ctx, "makecache")
}

func (m rpmManager) install(ctx context.Context, spec *graph.Pkg, name, version string) (string, error) {
	var args []string
	if spec.AllowUntrusted {
		args = append(args, "--nogpgcheck")
	}
	if version == "" {
		return m.change(ctx, append(args, "install", name)...)
	}
	have, err := m.state(ctx, name)
	if err != nil {
		return "", err
	}
	verb := "install"
	for _, v := range have.versions {
		down, err := m.higher(ctx, v, version)
		if err != nil {
			return "", err
		}
		if down {
			verb = "downgrade"
		}
	}
	if epoch, rest, found := strings.Cut(version, ":"); found { // dnf(8), "Specifying packages"
		return m.change(ctx, append(args, verb, name+"-"+epoch+":"+rest)...)
	}
	return m.change(ctx, append(args, verb, name+"-"+version)...)
}

func (m rpmManager) remove(ctx context.Context, name string) (string, error) {
	return m.change(ctx, "remove", name)
}

// change runs dnf. It would wait without end for another dnf, so we do that.
func (m rpmManager) change(ctx context.Context, args ...string) (string, error) {
	return act(ctx, rpmLocked, nil, append([]string{m.tool, "-y", "-q", "--setopt=exit_on_lock=True"}, args...)...)
}

// rpmLocked knows what dnf, yum and rpm say when another one is at work.
func rpmLocked(output string) bool {
	for _, words := range []string{
		" already locked by ", "Existing lock ", "Another app is currently holding the yum lock",
		"can't create transaction lock", "Failed to obtain the transaction lock",
	} {
		if strings.Contains(output, words) {
			return !strings.Contains(output, "Permission denied")
		}
	}
	return false
}
