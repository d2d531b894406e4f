//go:build !engine

package main

import (
	"cmp"
	"errors"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// targets makes the fleet's hosts of those that flags named, files and their remote: keys, and checks all of it. For each
// host there is the file that its definition is in; none where the payload is a command.
func (f *runFlags) targets(hosts []*inventory.Entry, files, command []string) ([]fleet.Host, []*source, error) {
	if len(command) > 0 {
		switch {
		case len(files) > 0:
			return nil, nil, errors.New("give a definition file or a command after --, not both")
		case len(hosts) == 0:
			return nil, nil, errNoHost
		case f.noop:
			return nil, nil, errors.New("--noop is for definitions; what a command would do only the command knows")
		case len(f.vars) > 0:
			return nil, nil, errors.New("--var is for templates of definitions; a command takes arguments and --env")
		}
		targets, err := f.fleetHosts(hosts, nil)
		return targets, nil, err
	}
	if len(files) == 0 {
		return nil, nil, errors.New("nothing to run: name a definition file, or a command after --")
	}
	vars, err := parseVariables(f.vars)
	if err != nil {
		return nil, nil, err
	}
	first, known := inventory.Host{}, variablesOfAny(vars)
	if len(hosts) > 0 { // the others follow in giveVariables
		first, known = hosts[0].Host, variablesOf(vars, hosts[0])
	}
	read, err := load(files, first, known)
	if err != nil {
		return nil, nil, err
	}
	sources := read
	switch {
	case len(hosts) > 0 && len(files) > 1:
		return nil, nil, errors.New("with -H or -I give one definition file: it is for all hosts named")
	case len(hosts) > 0:
		sources = make([]*source, len(hosts))
		for i := range sources {
			sources[i] = read[0]
		}
	default:
		for _, s := range read {
			h, err := s.host()
			if err != nil {
				return nil, nil, err
			}
			hosts = append(hosts, &inventory.Entry{Host: h})
		}
	}
	targets, err := f.fleetHosts(hosts, sources)
	if err != nil {
		return nil, nil, err
	}
	return targets, sources, f.giveVariables(vars, hosts, targets, sources)
}

// fleetHosts makes hosts for the fleet; sources, if there are any, one for each.
func (f *runFlags) fleetHosts(entries []*inventory.Entry, sources []*source) ([]fleet.Host, error) {
	hosts := make([]inventory.Host, len(entries))
	for i, e := range entries {
		hosts[i] = e.Host
	}
	if err := inventory.Unique(hosts); err != nil {
		return nil, err
	}
	out := make([]fleet.Host, len(hosts))
	for i, h := range hosts {
		out[i] = fleet.Host{Name: h.Name, Addr: h.Addr, Port: saidPort(entries[i]), User: h.User, Password: h.Password, Prefix: cmp.Or(f.prefix, h.Prefix)}
		if f.jump == "" { // the flag goes before what inventories say
			out[i].Jump = entries[i].Fields[inventory.Jump].Text
		}
		if v, said := entries[i].Fields[inventory.Identity]; said {
			out[i].Identities = []string{v.Text}
		}
		f.become.give(&out[i], entries[i])
		if sources != nil {
			out[i].Definition, out[i].File = sources[i].bytes, sources[i].file
		}
	}
	if err := f.password.give(out, entries, func(h *fleet.Host) *string { return &h.Shared }); err != nil {
		return nil, err
	}
	if err := f.become.password.give(out, entries, func(h *fleet.Host) *string { return &h.BecomeShared }); err != nil {
		return nil, err
	}
	return out, f.become.checkUse(out)
}

// giveVariables gives each host of a template its variables. What its remote: said before they were known, it must still say.
func (f *runFlags) giveVariables(vars []hostVariable, hosts []*inventory.Entry, targets []fleet.Host, sources []*source) error {
	if err := checkVariables(vars, hosts); err != nil {
		return err
	}
	templates := 0
	for i := range targets {
		s := sources[i]
		if !graph.IsTemplate(s.file) {
			continue
		}
		templates++
		targets[i].Vars = variablesOf(vars, hosts[i])
		if err := s.checkFor(targets[i], s.bytes); err != nil {
			return err
		}
	}
	if len(vars) > 0 && templates == 0 {
		return errors.New("--var is for templates, files that are called *.yaml.tmpl or *.yml.tmpl, and there is none")
	}
	return nil
}
