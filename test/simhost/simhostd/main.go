// Command simhostd serves many simulated hosts (package simhost) on loopback, as a process of its own, so that an
// initiator's memory and CPU can be measured without theirs.
//
//	simhostd --hosts 1000 --payload exit=0,run=50ms
//
// Where they listen is package loopback's. It prints one JSON line with the hosts, a private key that may log in and
// a known_hosts file, serves until its standard input ends, then prints a JSON line with what happened. Files are in a
// temporary directory that goes with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/test/simhost"
	"github.com/mgmt-remote/mgmt-remote/test/simhost/loopback"
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
	Hosts      []loopback.Address `json:"hosts"`
	Identity   string             `json:"identity"`
	KnownHosts string             `json:"known_hosts"`
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
	f, err := loopback.New(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for i := range c.hosts {
		if _, err := f.Add(simhost.Options{Name: fmt.Sprintf("sim%d", i), Payload: payload, Trust: c.trust}); err != nil {
			return err
		}
	}
	out := announced{Hosts: f.Addresses(), Identity: f.Identity(), KnownHosts: filepath.Join(dir, "known_hosts")}
	if err := f.WriteKnownHosts(out.KnownHosts); err != nil {
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
	return errors.Join(err, json.NewEncoder(stdout).Encode(summarize(f)))
}

func summarize(f *loopback.Fleet) summary {
	s := summary{Unexpected: []string{}}
	for _, h := range f.Hosts() {
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
