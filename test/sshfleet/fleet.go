package sshfleet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Options says what fleet to make. The zero value plus Dir is one host with key authentication on loopback.
type Options struct {
	// Dir is where everything of the fleet lives. It is made (0700) when it doesn't exist and never removed. Unix
	// socket paths have at most 104 bytes, so keep it short.
	Dir string
	// Names of the hosts. Empty: Hosts hosts named demo1, demo2, ….
	Names []string
	// Hosts is how many hosts to make when there are no Names; 0 means 1.
	Hosts int
	// Listen gives the listener of the i-th host, counted from 0. The fleet closes it. Nil: a free port of 127.0.0.1.
	Listen func(i int) (net.Listener, error)
	// User is the only user that may log in. Empty: the user of this process, as whom commands run in any case.
	User string
	// Login says which methods are accepted; Password is what the password method wants.
	Login    Login
	Password string
	// Shell is the login shell. Empty: /bin/sh.
	Shell string
	// Logger gets what the servers do, mostly at debug level. Nil: nothing is logged.
	Logger *slog.Logger
}

// Login says which authentication methods a host accepts.
type Login uint8

// The combinations.
const (
	LoginKey      Login = iota // the fleet's client key
	LoginPassword              // Options.Password
	LoginEither                // either of them
)

// Fleet is a number of running hosts. Close it to stop them.
type Fleet struct {
	hosts      []*Host
	keyFile    string
	knownHosts string
	signer     ssh.Signer
}

// New makes the directories, keys and hosts of a fleet and starts to serve. On error nothing is left running.
func New(opts Options) (*Fleet, error) {
	if err := complete(&opts); err != nil {
		return nil, fmt.Errorf("sshfleet: %w", err)
	}
	f := &Fleet{keyFile: filepath.Join(opts.Dir, "id_ed25519"), knownHosts: filepath.Join(opts.Dir, "known_hosts")}
	if err := f.start(opts); err != nil {
		return nil, fmt.Errorf("sshfleet: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// complete fills in the defaults and refuses what can't work.
func complete(o *Options) error {
	if o.Dir == "" {
		return errors.New("no directory given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	if o.Login != LoginKey && o.Password == "" {
		return errors.New("password authentication without a password")
	}
	if len(o.Names) == 0 {
		for i := range max(o.Hosts, 1) {
			o.Names = append(o.Names, fmt.Sprintf("demo%d", i+1))
		}
	}
	seen := map[string]bool{}
	for _, name := range o.Names {
		if name == "" || strings.ContainsAny(name, "/ \t\n") || strings.HasPrefix(name, ".") || seen[name] {
			return fmt.Errorf("bad or repeated host name %q", name)
		}
		seen[name] = true
	}
	if o.Listen == nil {
		o.Listen = func(int) (net.Listener, error) {
			var lc net.ListenConfig
			return lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		}
	}
	if o.User == "" {
		u, err := user.Current()
		if err != nil {
			return fmt.Errorf("find out our user: %w", err)
		}
		o.User = u.Username
	}
	if o.Shell == "" {
		o.Shell = "/bin/sh"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (f *Fleet) start(opts Options) error {
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return err
	}
	var err error
	if f.signer, err = writeKey(f.keyFile); err != nil {
		return fmt.Errorf("make client key: %w", err)
	}
	var lines strings.Builder
	for i, name := range opts.Names {
		h, err := newHost(i, name, opts, f.signer.PublicKey())
		if err != nil {
			return fmt.Errorf("host %s: %w", name, err)
		}
		f.hosts = append(f.hosts, h)
		lines.WriteString(h.KnownHostsLine() + "\n")
	}
	return os.WriteFile(f.knownHosts, []byte(lines.String()), 0o600)
}

// writeKey makes an ed25519 key and writes it in OpenSSH's format to a new file with mode 0600.
func writeKey(path string) (ssh.Signer, error) {
	signer, private, err := newKey()
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "sshfleet")
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(pem.EncodeToMemory(block))
	return signer, errors.Join(err, file.Close())
}

func newKey() (ssh.Signer, ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	return signer, private, err
}

// Hosts returns the hosts in the order of their names in Options. The slice is the caller's.
func (f *Fleet) Hosts() []*Host { return append([]*Host(nil), f.hosts...) }

// KeyFile is the path of the client's private key (OpenSSH format, 0600, no passphrase).
func (f *Fleet) KeyFile() string { return f.keyFile }

// KnownHostsFile is the path of a known_hosts file with a line for each host.
func (f *Fleet) KnownHostsFile() string { return f.knownHosts }

// ClientKey signs with the client's private key, for clients that don't read files.
func (f *Fleet) ClientKey() ssh.Signer { return f.signer }

// Close closes every host (see [Host.Close]). The directory stays. It may be called more than once.
func (f *Fleet) Close() error {
	errs := make([]error, len(f.hosts))
	for i, h := range f.hosts {
		errs[i] = h.Close()
	}
	return errors.Join(errs...)
}
