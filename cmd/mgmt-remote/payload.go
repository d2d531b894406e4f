//go:build !engine

package main

import (
	"errors"
	"fmt"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// The values of --payload.
const (
	payloadGraph   = "graph"
	payloadCommand = "command"
	payloadMgmt    = "mgmt"
)

// choose finds out which payload is meant, and completes the options with it and with the hosts.
// It returns the files that the definitions of the hosts are in, if there are any.
func (f *runFlags) choose(opts *fleet.Options, hosts []*inventory.Entry, files, command []string) (sources []*source, err error) {
	switch f.payload {
	case "":
	case payloadMgmt:
		return nil, f.chooseMgmt(opts, hosts, files, command)
	case payloadGraph:
		if len(command) > 0 || f.binary != "" {
			return nil, errors.New("--payload graph: a definition is not run by a command or a --binary")
		}
	case payloadCommand:
		if len(command) == 0 && f.binary == "" {
			return nil, errors.New("--payload command: name the command after --, or a program with --binary")
		}
	default:
		return nil, fmt.Errorf("--payload %q: use graph, command or mgmt", f.payload)
	}
	if f.binary != "" && len(command) == 0 {
		command = []string{f.binary}
	}
	opts.Payload.Command = command
	opts.Hosts, sources, err = f.targets(hosts, files, command)
	return sources, err
}

// chooseMgmt is choose for mgmt. Its code is not ours to read.
func (f *runFlags) chooseMgmt(opts *fleet.Options, hosts []*inventory.Entry, files, command []string) (err error) {
	switch {
	case len(command) > 0:
		return errors.New("--payload mgmt: give mgmt's code, not a command")
	case len(files) != 1:
		return errors.New("--payload mgmt: name one file of mgmt code (.mcl or .yaml), or one directory")
	case f.binary == "":
		return errors.New("--payload mgmt: name mgmt itself with --binary FILE")
	case len(hosts) == 0:
		return errNoHost
	case len(f.vars) > 0:
		return errors.New("--var is for templates of definitions; mgmt's code has variables of its own")
	}
	opts.Payload.Mgmt, opts.Payload.Binary = &fleet.Mgmt{Binary: f.binary, Code: files[0]}, ""
	opts.Hosts, err = f.fleetHosts(hosts, nil)
	return err
}
