//go:build !engine

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
)

// source is a definition file, or a template of one, as it was read at the start.
type source struct {
	file   string
	bytes  []byte
	def    *graph.Definition // of a template: for one host, with samples of what is not known
	remote bool              // its key remote: says which host it is for
}

// maxSource bounds what is read of a file. It is more than a definition may have, which the parser then says.
const maxSource = 16<<20 + 1

// load reads all files and reports the problems of all of them. A template is checked for the host, as far as it is known.
func load(files []string, host inventory.Host, vars map[string]string) ([]*source, error) {
	var errs []error
	sources := make([]*source, len(files))
	for i, file := range files {
		s := &source{file: file}
		var err error
		if s.bytes, err = readSource(file); err == nil {
			s.def, err = s.check(s.bytes, host.Name, host.Addr, vars)
		}
		errs = append(errs, err)
		sources[i] = s
	}
	return sources, errors.Join(errs...)
}

func readSource(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing to lose
	return io.ReadAll(io.LimitReader(f, maxSource))
}

// check checks bytes that are to stand in the file, for a host as far as it is known.
func (s *source) check(bytes []byte, host, addr string, vars map[string]string) (*graph.Definition, error) {
	return payload.Definition{File: s.file, Source: bytes, Vars: vars}.Check(host, addr)
}

// checkFor is check for a host of the run. Which host a file is for was read at the start.
func (s *source) checkFor(h fleet.Host, bytes []byte) error {
	def, err := s.check(bytes, h.Name, h.Addr, h.Vars)
	if err != nil || !s.remote || def.Remote == s.def.Remote {
		return err
	}
	place := s.file
	if at := def.RemoteAt; at.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", s.file, at.Line, at.Column) // the line is not shown: a password may be in it
	}
	return fmt.Errorf("%s: remote: is read at the start only, and the host was %s then", place, h.Name)
}

// host returns the host that the file is for.
func (s *source) host() (inventory.Host, error) {
	if s.def.Remote == "" {
		return inventory.Host{}, fmt.Errorf("%s: no host was named: use -H HOST, or the key remote: in the file", s.file)
	}
	h, err := inventory.ParseHost(s.def.Remote)
	if err != nil {
		return h, fmt.Errorf("%s:%d:%d: remote: %w", s.file, s.def.RemoteAt.Line, s.def.RemoteAt.Column, err)
	}
	s.remote = true
	return h, nil
}
