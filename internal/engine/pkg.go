package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

const (
	// listsMaxAge is how old the package lists may be where the newest version is wanted.
	listsMaxAge = time.Hour
	// listsRetryAge is how old they must be for a failed installation to be tried again with new ones: the package may be
	// new, or what the lists name may be gone. Not younger, so that a typing error does not ask the mirrors at each retry.
	listsRetryAge = 5 * time.Minute
)

// packageLock is held while packages are changed: package managers lock their database, and some then give up.
var packageLock = newLock()

// pkgState is what there is of a package.
type pkgState struct {
	versions []string // installed ones; more than one for several architectures, or kernels
	broken   string   // why it is neither installed nor not, in the package manager's word; "" if it is not so
}

func (s pkgState) none() bool { return len(s.versions) == 0 && s.broken == "" }

func (s pkgState) String() string {
	if s.broken != "" {
		return s.broken
	}
	return strings.Join(s.versions, ",")
}

// packageManager is what the package managers have in common. Names and versions it gets were looked at by newPkg.
// Methods with an output return what the manager said, and wait for its lock.
type packageManager interface {
	// database is the file that changes with what is installed, and not with questions about it.
	database() string
	// state asks what is installed.
	state(ctx context.Context, name string) (pkgState, error)
	// upgrade asks the known lists for a version that is newer than what is installed; "" if they know none.
	upgrade(ctx context.Context, name string, have pkgState) (version string, err error)
	// higher reports whether version a is higher than b.
	higher(ctx context.Context, a, b string) (bool, error)
	// matches reports whether an installed version is the declared one.
	matches(installed, declared string) bool
	// lists says where the package lists are, and what decides from where they come, as patterns of filepath.Glob.
	lists() (files, sources []string)
	// update brings the package lists up to date.
	update(ctx context.Context, spec *graph.Pkg) (output string, err error)
	// install installs a version, or the newest one for "".
	install(ctx context.Context, spec *graph.Pkg, name, version string) (output string, err error)
	// remove removes a package; configuration may stay.
	remove(ctx context.Context, name string) (output string, err error)
}

// findPackageManager returns the one that this machine has; nil if there is none. Where there are several, apt comes first:
// Debian has a package of dnf, but no distribution with rpm has dpkg's database.
func findPackageManager() packageManager {
	switch {
	case command.Find("apt-get") != "":
		return aptManager{}
	case command.Find("dnf") != "":
		return rpmManager{tool: "dnf"}
	case command.Find("yum") != "":
		return rpmManager{tool: "yum"}
	case command.Find("apk") != "":
		return apkManager{}
	}
	return nil
}

// updates remembers when this process brought the lists up to date: where nothing was new, files may not show it.
var updates struct {
	sync.Mutex
	last time.Time
}

// listsAge is how old the package lists are. Those of other sources than the present ones count as missing.
func listsAge(m packageManager) time.Duration {
	files, sources := m.lists()
	updates.Lock()
	last := updates.last
	updates.Unlock()
	if seen := newest(files); seen.After(last) {
		last = seen
	}
	if newest(sources).After(last) {
		last = time.Time{}
	}
	return time.Since(last)
}

// newest is when the newest of the files was written; the zero time if there are none.
func newest(patterns []string) time.Time {
	var newest time.Time
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			panic(err) // the pattern is wrong
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
	}
	return newest
}

// pkgResource is a package.
type pkgResource struct {
	name    string
	spec    *graph.Pkg
	manager packageManager // nil if there is none: that is an error where it is used, not at the start
}

// Names are more than what the distributions allow, but nothing that a package manager takes for an option, a pattern, a
// file, a group or a request to remove ("name-" for apt).
var (
	packageName    = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.+-]*[A-Za-z0-9_.+])?(:[a-z0-9-]*[a-z0-9])?$`)
	packageVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+~:^-]*$`)
)

func newPkg(name string, spec *graph.Pkg) (resource, error) {
	if !packageName.MatchString(name) {
		return nil, fmt.Errorf("%q can't be the name of a package", name)
	}
	if !packageVersion.MatchString(spec.State) {
		return nil, fmt.Errorf("%q can't be the version of a package", spec.State)
	}
	return &pkgResource{name: name, spec: spec, manager: findPackageManager()}, nil
}

func (p *pkgResource) paths() []string {
	if p.manager == nil {
		return nil
	}
	return []string{p.manager.database()}
}

var errNoPackageManager = errors.New("this machine has none of apt-get, dnf, yum and apk")

// pkgPlan is what there is to do about a package. The zero value is nothing.
type pkgPlan struct {
	change  string // in words
	version string // to install; "" = the newest
	remove  bool
	problem string // why it can't be done; "" if it can
}

// plan looks what there is to do. It does not ask whether something newer exists than the lists know.
func (p *pkgResource) plan(ctx context.Context) (pkgPlan, error) {
	have, err := p.manager.state(ctx, p.name)
	if err != nil {
		return pkgPlan{}, err
	}
	switch p.spec.State {
	case graph.PkgUninstalled:
		if have.none() {
			return pkgPlan{}, nil
		}
		return pkgPlan{change: fmt.Sprintf("remove %s (%s)", p.name, have), remove: true}, nil
	case graph.PkgInstalled, graph.PkgNewest:
		switch {
		case have.none():
			return pkgPlan{change: "install " + p.name}, nil
		case have.broken != "":
			return pkgPlan{change: fmt.Sprintf("repair %s (%s)", p.name, have)}, nil
		case p.spec.State == graph.PkgInstalled:
			return pkgPlan{}, nil
		}
		version, err := p.manager.upgrade(ctx, p.name, have)
		if err != nil || version == "" {
			return pkgPlan{}, err
		}
		return pkgPlan{change: fmt.Sprintf("upgrade %s from %s to %s", p.name, have, version), version: version}, nil
	}
	return p.planVersion(ctx, have)
}

func (p *pkgResource) planVersion(ctx context.Context, have pkgState) (pkgPlan, error) {
	want := p.spec.State
	plan := pkgPlan{change: fmt.Sprintf("install %s %s", p.name, want), version: want}
	switch {
	case have.none():
		return plan, nil
	case have.broken != "":
		plan.change = fmt.Sprintf("repair %s (%s) with version %s", p.name, have, want)
		return plan, nil
	case slices.ContainsFunc(have.versions, func(v string) bool { return p.manager.matches(v, want) }):
		return pkgPlan{}, nil
	}
	down, err := p.manager.higher(ctx, have.versions[len(have.versions)-1], want)
	if err != nil {
		return pkgPlan{}, err
	}
	if down {
		plan.change = fmt.Sprintf("downgrade %s from %s to %s", p.name, have, want)
		if !p.spec.AllowDowngrade {
			plan.problem = fmt.Sprintf("version %s is installed, which is higher than %s, and allowdowngrade is not set", have, want)
		}
	} else {
		plan.change = fmt.Sprintf("upgrade %s from %s to %s", p.name, have, want)
	}
	return plan, nil
}

// check asks the package manager's own files only, so it says what would be done as far as these know.
func (p *pkgResource) check(ctx context.Context) (string, error) {
	if p.manager == nil {
		return "", errNoPackageManager
	}
	plan, err := p.plan(ctx)
	switch {
	case err != nil:
		return "", err
	case plan.problem != "":
		return plan.change + " (but " + plan.problem + ")", nil
	case plan.change == "" && p.outdated():
		return fmt.Sprintf("look whether there is something newer than the package lists know, which are %s", age(listsAge(p.manager))), nil
	}
	return plan.change, nil
}

// outdated reports whether the lists are too old to say what is the newest version.
func (p *pkgResource) outdated() bool {
	return p.spec.State == graph.PkgNewest && listsAge(p.manager) > listsMaxAge
}

// apply returns errUnchanged where all it did was to look for something newer.
func (p *pkgResource) apply(ctx context.Context) (string, error) {
	if p.manager == nil {
		return "", errNoPackageManager
	}
	return packageLock.hold(ctx, func() (string, error) {
		if p.outdated() {
			if out, err := p.update(ctx); err != nil {
				return out, err
			}
		}
		plan, err := p.plan(ctx)
		switch {
		case err != nil:
			return "", err
		case plan.change == "":
			return "", errUnchanged
		case plan.problem != "":
			return "", errors.New(plan.problem)
		}
		out, err := p.do(ctx, plan)
		if err != nil {
			return out, err
		}
		switch plan, err = p.plan(ctx); {
		case err != nil:
			return out, err
		case plan.change != "":
			return out, fmt.Errorf("the package manager reports success, but there is still to do: %s", plan.change)
		}
		return out, nil
	})
}

// do carries out a plan. An installation that fails is tried again with new lists if those that it had are old.
func (p *pkgResource) do(ctx context.Context, plan pkgPlan) (string, error) {
	if plan.remove {
		return p.manager.remove(ctx, p.name)
	}
	out, err := p.manager.install(ctx, p.spec, p.name, plan.version)
	if err == nil || ctx.Err() != nil || listsAge(p.manager) <= listsRetryAge {
		return out, err
	}
	if updated, updateErr := p.update(ctx); updateErr != nil {
		return out + updated, fmt.Errorf("%w; and with new package lists: %w", err, updateErr)
	}
	return p.manager.install(ctx, p.spec, p.name, plan.version)
}

func (p *pkgResource) update(ctx context.Context) (string, error) {
	out, err := p.manager.update(ctx, p.spec)
	if err == nil {
		updates.Lock()
		updates.last = time.Now()
		updates.Unlock()
	}
	return out, err
}

// age writes how old something is, for people.
func age(d time.Duration) string {
	if d > 10*365*24*time.Hour {
		return "missing"
	}
	return d.Round(time.Minute).String() + " old"
}
