//go:build !engine

package main

import (
	"errors"
	"fmt"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// targets makes the hosts of -H, files and their remote: keys, and checks all of it.
func (f *runFlags) targets(files, command []string) ([]fleet.Host, error) {
	hosts := make([]inventory.Host, 0, len(f.hosts))
	for _, text := range f.hosts {
		h, err := inventory.ParseHost(text)
		if err != nil {
			return nil, fmt.Errorf("--host: %w", err)
		}
		hosts = append(hosts, h)
	}
	if len(command) > 0 {
		switch {
		case len(files) > 0:
			return nil, errors.New("give a definition file or a command after --, not both")
		case len(hosts) == 0:
			return nil, errors.New("no host was named: use -H HOST")
		case f.noop:
			return nil, errors.New("--noop is for definitions; what a command would do only the command knows")
		}
		return f.fleetHosts(hosts, func(int) []byte { return nil })
	}
	if len(files) == 0 {
		return nil, errors.New("nothing to run: name a definition file, or a command after --")
	}
	definitions, err := load(files)
	if err != nil {
		return nil, err
	}
	if len(hosts) > 0 {
		if len(files) > 1 {
			return nil, errors.New("with -H give one definition file: it is for all hosts named")
		}
		return f.fleetHosts(hosts, func(int) []byte { return definitions[0].Source })
	}
	for _, d := range definitions {
		if d.Remote == "" {
			return nil, fmt.Errorf("%s: no host was named: use -H HOST, or the key remote: in the file", d.File)
		}
		h, err := inventory.ParseHost(d.Remote)
		if err != nil {
			return nil, fmt.Errorf("%s:%d:%d: remote: %w", d.File, d.RemoteAt.Line, d.RemoteAt.Column, err)
		}
		hosts = append(hosts, h)
	}
	return f.fleetHosts(hosts, func(i int) []byte { return definitions[i].Source })
}

// load reads all files and reports the problems of all of them.
func load(files []string) ([]*graph.Definition, error) {
	var errs []error
	definitions := make([]*graph.Definition, len(files))
	for i, file := range files {
		d, err := graph.Load(file)
		errs = append(errs, err)
		definitions[i] = d
	}
	return definitions, errors.Join(errs...)
}

func (f *runFlags) fleetHosts(hosts []inventory.Host, definition func(i int) []byte) ([]fleet.Host, error) {
	if err := inventory.Unique(hosts); err != nil {
		return nil, err
	}
	out := make([]fleet.Host, len(hosts))
	for i, h := range hosts {
		out[i] = fleet.Host{
			Name: h.Name, Addr: h.Addr, Port: h.Port, User: h.User, Password: h.Password, Prefix: f.prefix, Definition: definition(i),
		}
	}
	return out, nil
}
