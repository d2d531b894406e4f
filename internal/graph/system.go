package graph

import (
	"regexp"
	"strings"
)

var (
	// unitName is what systemd.unit(5) allows before the suffix ".service"; with it, a name has at most 255 characters.
	unitName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9:_.@\\-]{0,246}$`)
	// packageName covers names of Debian (also with an architecture), RPM and Alpine packages. Names go to argv and must not
	// be taken for options; apt-get(8) removes the package "x" if told to install "x-".
	packageName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9+._:-]*$`)
	// packageVersion covers versions as deb-version(7), RPM (with epoch and release) and apk write them.
	packageVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+.~:^_-]*$`)
)

func readSvc(p *parser, r *Resource) (map[string]field, func(given)) {
	s := &Svc{}
	r.Spec = s
	fields := map[string]field{
		"state":   choice(p, &s.State, "state", []string{"running", "stopped"}, []Running{RunningYes, RunningNo}),
		"startup": choice(p, &s.Startup, "startup", []string{"enabled", "disabled"}, []Startup{StartupEnabled, StartupDisabled}),
		"session": p.boolean(&s.Session, "session"),
	}
	return fields, func(at given) {
		name, suffix := strings.CutSuffix(r.ID.Name, ".service")
		switch {
		case suffix:
			p.fail(at["name"], "name: without .service, as in mgmt: %s", name)
		case !unitName.MatchString(name):
			p.fail(at["name"], `name: %q can't be a service: want letters, digits and any of : _ . @ \ -, at most 247`, name)
		}
	}
}

// pkgWords are words that people take for states of packages, and the states that they mean.
var pkgWords = map[string]string{
	"latest": PkgNewest, "present": PkgInstalled, "exists": PkgInstalled, "absent": PkgUninstalled, "removed": PkgUninstalled,
	"purged": PkgUninstalled,
}

func readPkg(p *parser, r *Resource) (map[string]field, func(given)) {
	k := &Pkg{State: PkgInstalled}
	r.Spec = k
	fields := map[string]field{
		"state":          p.text(&k.State, "state"),
		"allowdowngrade": p.boolean(&k.AllowDowngrade, "allowdowngrade"),
		"allowuntrusted": p.boolean(&k.AllowUntrusted, "allowuntrusted"),
	}
	return fields, func(at given) {
		switch name := r.ID.Name; {
		case strings.HasPrefix(name, "/"):
			p.fail(at["name"], "name: %q is a path; installing package files is not supported by this version", name)
		case !packageName.MatchString(name) || strings.HasSuffix(name, "-"):
			p.fail(at["name"], "name: %q can't be a package: want letters, digits and any of + . _ : -, and no - at either end", name)
		}
		word, known := pkgWords[k.State]
		switch {
		case k.State == PkgInstalled || k.State == PkgUninstalled || k.State == PkgNewest:
		case known:
			p.fail(at["state"], "state: %q; did you mean %s?", k.State, word)
		case !packageVersion.MatchString(k.State) || !strings.ContainsAny(k.State, "0123456789"):
			p.fail(at["state"], "state: %q is neither installed, uninstalled or newest nor a version", k.State)
		}
	}
}

func readTimer(p *parser, r *Resource) (map[string]field, func(given)) {
	t := &Timer{}
	r.Spec = t
	fields := map[string]field{"interval": p.seconds("interval", 1, &t.Interval)}
	return fields, func(at given) {
		if t.Interval == 0 {
			p.fail(at["name"], "%s needs an interval, in seconds", r.ID)
		}
	}
}
