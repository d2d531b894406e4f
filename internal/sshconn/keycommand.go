package sshconn

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/command"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconfig"
)

// Why a KnownHostsCommand is run, its %I: to know which types of keys to ask a host for, and for the key that it has shown.
const (
	orderKeys = "ORDER"
	findKeys  = "HOSTNAME"
)

// Bounds of KnownHostsCommand.
const (
	keyCommandTimeout = 10 * time.Second
	keyCommandsAtOnce = 16
	keyCommandReuse   = 10 * time.Second // the same command is not run again so soon
	keyCommandOutput  = 16 << 20         // bytes
)

// keyCommandName is in errors where a file would be.
const keyCommandName = "KnownHostsCommand"

// keyCommands runs the KnownHostsCommands of all hosts.
type keyCommands struct {
	slots chan struct{}

	mu   sync.Mutex
	runs map[string]*keyCommandRun // by the command and its arguments
}

// keyCommandRun is a command that runs or has just run. All but done is set before that is closed.
type keyCommandRun struct {
	done    chan struct{}
	keys    *HostKeys
	err     error
	givenUp bool // by whom it was run for: it says nothing to others
}

func newKeyCommands() *keyCommands {
	return &keyCommands{slots: make(chan struct{}, keyCommandsAtOnce), runs: map[string]*keyCommandRun{}}
}

// fromCommand is what the host's KnownHostsCommand says; nil where there is none, and where all keys are taken. key is nil before
// the host has shown one. The error is a fault, or that of ctx.
func (h *HostKeys) fromCommand(ctx context.Context, host inventory.Host, why string, key ssh.PublicKey) (*HostKeys, error) {
	if host.SSH == nil || len(host.SSH.KnownHostsCommand) == 0 || h.policyFor(host) == Insecure {
		return nil, nil
	}
	name := host.Addr // as OpenSSH has it before there is a key
	if key != nil {
		name = knownhosts.Normalize(keyAddress(host))
	}
	if strings.HasPrefix(name, "-") {
		return nil, fault.New(fault.Untrusted, "check the host key", "%q is no name that is given to a program, which could take it for an option", name)
	}
	argv, err := sshconfig.ExpandKeyTokens(host.SSH.KnownHostsCommand, func(t byte) string {
		switch {
		case t == 'H':
			return name
		case t == 'I':
			return why
		case key == nil:
			return "NONE"
		case t == 'K':
			return base64.StdEncoding.EncodeToString(key.Marshal())
		case t == 'f':
			return ssh.FingerprintSHA256(plainKey(key))
		}
		return key.Type() // 't'
	})
	if err != nil {
		return nil, fault.Wrap(fault.Untrusted, "check the host key", err)
	}
	keys, err := h.commands.ask(ctx, argv)
	if err != nil && ctx.Err() == nil {
		return nil, fault.Wrap(fault.Untrusted, "check the host key", fmt.Errorf("%s %q: %w", keyCommandName, argv, err)).
			WithRemedy("run the command by hand to see what is wrong with it; without what it says no host is trusted")
	}
	return keys, err
}

// ask runs a command, unless it has been run just now.
func (c *keyCommands) ask(ctx context.Context, argv []string) (*HostKeys, error) {
	id := strings.Join(argv, "\x00")
	for {
		c.mu.Lock()
		r := c.runs[id]
		if r == nil {
			r = &keyCommandRun{done: make(chan struct{})}
			c.runs[id] = r
			c.mu.Unlock()
			c.run(ctx, id, argv, r)
			return r.keys, r.err
		}
		c.mu.Unlock()
		select {
		case <-r.done:
			if !r.givenUp {
				return r.keys, r.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *keyCommands) run(ctx context.Context, id string, argv []string, r *keyCommandRun) {
	defer close(r.done)
	forget := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.runs, id)
	}
	select {
	case c.slots <- struct{}{}:
		r.keys, r.err = runKeyCommand(ctx, argv)
		<-c.slots
	case <-ctx.Done():
	}
	if r.err = errors.Join(ctx.Err(), r.err); ctx.Err() != nil {
		r.givenUp = true
		forget()
		return
	}
	time.AfterFunc(keyCommandReuse, forget)
}

func runKeyCommand(ctx context.Context, argv []string) (*HostKeys, error) {
	ctx, cancel := command.WithTimeout(ctx, keyCommandTimeout)
	defer cancel()
	out := command.Head{Most: keyCommandOutput}
	var said tail
	cmd := command.New(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &said
	err := command.Do(ctx, cmd)
	if out.Cut() {
		return nil, fmt.Errorf("it prints more than %d MiB", keyCommandOutput>>20)
	}
	if err != nil {
		if text := printable(strings.Join(strings.FieldsFunc(said.String(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")); text != "" {
			err = fmt.Errorf("%w: it said %s", err, text)
		}
		return nil, err
	}
	return readKeys(out.Bytes())
}

// readKeys reads lines of known_hosts. The library takes files alone.
func readKeys(lines []byte) (_ *HostKeys, err error) {
	dir, err := os.MkdirTemp("", "mgmt-remote-keys")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	name := filepath.Join(dir, keyCommandName)
	if err := os.WriteFile(name, lines, 0o600); err != nil {
		return nil, err
	}
	keys := &HostKeys{files: []string{name}}
	if err := keys.load(); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), dir+"/", ""))
	}
	return keys, nil
}

// sourceName is a file of keys in words.
func sourceName(file string) string {
	if filepath.Base(file) == keyCommandName {
		return keyCommandName
	}
	return file
}

// lookInBoth looks in the files and in what a command said: a key that either has revoked is, and one that either knows is known. It is
// called with mu held.
func (h *HostKeys) lookInBoth(more *HostKeys, address string, remote net.Addr, key ssh.PublicKey) error {
	err := h.look(address, remote, key)
	if more == nil {
		return err
	}
	also := more.look(address, remote, key)
	var revoked *xknownhosts.RevokedError
	var no, nor *xknownhosts.KeyError
	switch {
	case errors.As(err, &revoked):
		return err
	case errors.As(also, &revoked):
		return also
	case err == nil || also == nil:
		return nil
	case errors.As(err, &no) && errors.As(also, &nor):
		return &xknownhosts.KeyError{Want: slices.Concat(no.Want, nor.Want)}
	case errors.As(err, &no):
		return also // what is wrong with a certificate tells more
	}
	return err
}
