// Package loopback puts simulated hosts (package simhost) behind real listeners on loopback, for initiators that are other processes.
//
// Host i listens on 127.1.(i/250).(i%250+1), all on the same free port: 127.0.0.0/8 is loopback as a whole on Linux, and only there.
package loopback

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// Fleet is simulated hosts with their listeners. Close ends all of them.
type Fleet struct {
	key       ssh.PublicKey
	identity  string
	port      int
	hosts     []*simhost.Host
	listeners []net.Listener
	addresses []Address
	serving   sync.WaitGroup

	mu     sync.Mutex
	failed []error
}

// Address is where a host listens.
type Address struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
	Port int    `json:"port"`
}

// New makes a fleet without hosts, and a private key that may log in to those that are added, in the file dir/identity.
func New(dir string) (*Fleet, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "simulated")
	if err != nil {
		return nil, err
	}
	f := &Fleet{identity: filepath.Join(dir, "identity")}
	if err := os.WriteFile(f.identity, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	f.key, err = ssh.NewPublicKey(public)
	return f, err
}

// Add makes a host, which the fleet's key may log in to, and listens for it.
func (f *Fleet) Add(o simhost.Options) (Address, error) {
	i := len(f.hosts)
	ip := net.IPv4(127, 1, byte(i/250), byte(i%250+1)).String()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(f.port)))
	if err != nil {
		return Address{}, fmt.Errorf("host %s: %w (more than one address below 127.0.0.0/8 works on Linux only)", o.Name, err)
	}
	tcp, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return Address{}, errors.Join(fmt.Errorf("host %s: %v is no TCP address", o.Name, ln.Addr()), ln.Close())
	}
	f.port = tcp.Port
	o.AuthorizedKey = f.key
	h := simhost.New(o)
	a := Address{o.Name, ip, tcp.Port}
	f.listeners = append(f.listeners, ln)
	f.hosts = append(f.hosts, h)
	f.addresses = append(f.addresses, a)
	f.serving.Go(func() {
		if err := h.Serve(ln); !errors.Is(err, net.ErrClosed) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.failed = append(f.failed, fmt.Errorf("host %s: %w", o.Name, err))
		}
	})
	return a, nil
}

// Hosts are those that were added, in their order.
func (f *Fleet) Hosts() []*simhost.Host { return f.hosts }

// Addresses are where they listen, in the same order.
func (f *Fleet) Addresses() []Address { return f.addresses }

// Identity is the file with the private key.
func (f *Fleet) Identity() string { return f.identity }

// WriteKnownHosts writes the keys of all hosts that were added.
func (f *Fleet) WriteKnownHosts(path string) error {
	var known strings.Builder
	for _, a := range f.addresses {
		at := net.JoinHostPort(a.Addr, strconv.Itoa(a.Port))
		known.WriteString(knownhosts.Line([]string{at}, simhost.DefaultHostKey().PublicKey()) + "\n")
	}
	return os.WriteFile(path, []byte(known.String()), 0o600)
}

// Close ends all hosts and tells which of them ceased to listen before.
func (f *Fleet) Close() error {
	var all []error
	for _, ln := range f.listeners {
		all = append(all, ln.Close())
	}
	for _, h := range f.hosts {
		all = append(all, h.Close())
	}
	f.serving.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(append(all, f.failed...)...)
}
