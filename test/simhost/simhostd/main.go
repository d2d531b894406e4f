// Command simhostd serves many simulated hosts (package simhost) on loopback, as a process of its own, so that an
// initiator's memory and CPU can be measured without theirs.
//
//	simhostd --hosts 1000 --payload exit=0,run=50ms
//
// Host i listens on 127.1.(i/250).(i%250+1), all on the same free port. It prints one JSON line with the hosts, a private key that may log in and
// a known_hosts file, serves until its standard input ends, then prints a JSON line with what happened. Files are in a
// temporary directory that goes with it.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		stop()
		os.Exit(1)
	}
}

type config struct {
	hosts   int
	payload string
	trust   bool
}

func newCommand() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "simhostd",
		Short: "Serve simulated hosts on loopback until standard input ends",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return c.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().IntVar(&c.hosts, "hosts", 10, "number of hosts, at most 60000")
	cmd.Flags().StringVar(&c.payload, "payload", "exit=0,run=50ms", "exit status, run time (0 = until signalled), lines of output, signals ignored: exit=N,run=DURATION,lines=N,ignore=N")
	cmd.Flags().BoolVar(&c.trust, "trust", true, "don't verify hashes and forget uploaded bytes")
	return cmd
}

// announced is the first line of output.
type announced struct {
	Hosts      []address `json:"hosts"`
	Identity   string    `json:"identity"`
	KnownHosts string    `json:"known_hosts"`
}

type address struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
	Port int    `json:"port"`
}

// summary is the last line of output.
type summary struct {
	Connections  int      `json:"connections"`
	Starts       int      `json:"starts"`
	SessionsLeft int      `json:"sessions_left"`
	Unexpected   []string `json:"unexpected"`
	CPUSeconds   float64  `json:"cpu_seconds"`
}

func (c *config) run(ctx context.Context, stdin io.Reader, stdout io.Writer) (err error) {
	if c.hosts < 1 || c.hosts > 60000 {
		return fmt.Errorf("--hosts %d is not between 1 and 60000", c.hosts)
	}
	payload, err := parsePayload(c.payload)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "simhostd-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	public, identity, err := newIdentity(dir)
	if err != nil {
		return err
	}
	f := &fleet{}
	defer func() { err = errors.Join(err, f.close()) }()
	out := announced{Identity: identity, KnownHosts: filepath.Join(dir, "known_hosts")}
	var known strings.Builder
	for i := range c.hosts {
		a, err := f.add(i, simhost.Options{Name: fmt.Sprintf("sim%d", i), AuthorizedKey: public, Payload: payload, Trust: c.trust})
		if err != nil {
			return err
		}
		out.Hosts = append(out.Hosts, a)
		at := net.JoinHostPort(a.Addr, strconv.Itoa(a.Port))
		known.WriteString(knownhosts.Line([]string{at}, simhost.DefaultHostKey().PublicKey()) + "\n")
	}
	if err := os.WriteFile(out.KnownHosts, []byte(known.String()), 0o600); err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(out); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { // ends with the process at the latest
		_, err := io.Copy(io.Discard, stdin)
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	return errors.Join(err, json.NewEncoder(stdout).Encode(f.summary()))
}

// fleet is the hosts with their listeners.
type fleet struct {
	port      int
	hosts     []*simhost.Host
	listeners []net.Listener
	serving   sync.WaitGroup
}

// add makes host i and listens for it. 127.0.0.0/8 is loopback as a whole on Linux.
func (f *fleet) add(i int, o simhost.Options) (address, error) {
	ip := net.IPv4(127, 1, byte(i/250), byte(i%250+1)).String()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(f.port)))
	if err != nil {
		return address{}, fmt.Errorf("host %s: %w (more than one address below 127.0.0.0/8 works on Linux only)", o.Name, err)
	}
	tcp, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return address{}, fmt.Errorf("host %s: %v is no TCP address", o.Name, ln.Addr())
	}
	f.port = tcp.Port
	h := simhost.New(o)
	f.listeners = append(f.listeners, ln)
	f.hosts = append(f.hosts, h)
	f.serving.Go(func() {
		if err := h.Serve(ln); !errors.Is(err, net.ErrClosed) {
			fmt.Fprintf(os.Stderr, "simhostd: host %s: %v\n", o.Name, err)
		}
	})
	return address{o.Name, ip, tcp.Port}, nil
}

func (f *fleet) close() error {
	var all []error
	for _, ln := range f.listeners {
		all = append(all, ln.Close())
	}
	for _, h := range f.hosts {
		all = append(all, h.Close())
	}
	f.serving.Wait()
	return errors.Join(all...)
}

func (f *fleet) summary() summary {
	s := summary{Unexpected: []string{}}
	for _, h := range f.hosts {
		_, total := h.Connections()
		s.Connections += total
		s.Starts += h.PayloadStarts()
		s.SessionsLeft += len(h.Sessions())
		for _, u := range h.Unexpected() {
			s.Unexpected = append(s.Unexpected, h.Name()+": "+u)
		}
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err == nil { // it fails for a wrong argument only
		s.CPUSeconds = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	}
	return s
}

// newIdentity writes a private key that may log in, in OpenSSH's format.
func newIdentity(dir string) (ssh.PublicKey, string, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	block, err := ssh.MarshalPrivateKey(private, "simhostd")
	if err != nil {
		return nil, "", err
	}
	path := filepath.Join(dir, "identity")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, "", err
	}
	key, err := ssh.NewPublicKey(public)
	return key, path, err
}

// parsePayload reads exit=N,run=DURATION,lines=N,ignore=N.
func parsePayload(text string) (simhost.Payload, error) {
	var p simhost.Payload
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return p, fmt.Errorf("--payload: %q is not KEY=VALUE", part)
		}
		var err error
		switch key {
		case "run":
			p.Run, err = time.ParseDuration(value)
		case "exit":
			p.ExitCode, err = strconv.Atoi(value)
		case "ignore":
			p.IgnoreSignals, err = strconv.Atoi(value)
		case "lines":
			var n int
			n, err = strconv.Atoi(value)
			for i := range min(n, 1<<20) {
				p.Output = append(p.Output, simhost.Chunk{Data: fmt.Sprintf("line %d\n", i+1)})
			}
		default:
			err = errors.New("unknown key")
		}
		if err != nil {
			return p, fmt.Errorf("--payload: %s: %w", part, err)
		}
	}
	return p, nil
}
