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
func (f *runFlags) choose(opts *fleet.Options, files, command []string) (err error) {
	switch f.payload {
	case "":
	case payloadMgmt:
		return f.chooseMgmt(opts, files, command)
	case payloadGraph:
		if len(command) > 0 || f.binary != "" {
			return errors.New("--payload graph: a definition is not run by a command or a --binary")
		}
	case payloadCommand:
		if len(command) == 0 && f.binary == "" {
			return errors.New("--payload command: name the command after --, or a program with --binary")
		}
	default:
		return fmt.Errorf("--payload %q: use graph, command or mgmt", f.payload)
	}
	if f.binary != "" && len(command) == 0 {
		command = []string{f.binary}
	}
	opts.Payload.Command = command
	opts.Hosts, err = f.targets(files, command)
	return err
}

// chooseMgmt is choose for mgmt. Its code is not ours to read.
func (f *runFlags) chooseMgmt(opts *fleet.Options, files, command []string) (err error) {
	switch {
	case len(command) > 0:
		return errors.New("--payload mgmt: give mgmt's code, not a command")
	case len(files) != 1:
		return errors.New("--payload mgmt: name one file of mgmt code (.mcl or .yaml), or one directory")
	case f.binary == "":
		return errors.New("--payload mgmt: name mgmt itself with --binary FILE")
	case len(f.hosts) == 0:
		return errors.New("no host was named: use -H HOST")
	}
	opts.Payload.Mgmt, opts.Payload.Binary = &fleet.Mgmt{Binary: f.binary, Code: files[0]}, ""
	hosts := make([]inventory.Host, len(f.hosts))
	for i, text := range f.hosts {
		if hosts[i], err = inventory.ParseHost(text); err != nil {
			return fmt.Errorf("--host: %w", err)
		}
	}
	opts.Hosts, err = f.fleetHosts(hosts, func(int) []byte { return nil })
	return err
}
