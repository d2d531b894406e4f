package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// runFlags are the flags of run, as given.
type runFlags struct {
	hosts  []string
	prefix string

	binary   string
	env      []string
	endpoint string
	noop     bool
	noWatch  bool

	identities  []string
	hostKeys    string
	knownHosts  []string
	askPass     bool
	interactive bool

	connectTimeout    time.Duration
	retryFor          time.Duration
	keepaliveInterval time.Duration
	keepaliveCount    int

	maxConnections   int
	convergedTimeout seconds
	maxRuntime       seconds
	orphanTimeout    time.Duration
	noCache          bool
	keepState        bool
	etcdEndpoints    []string
	etcdTLS          etcdTLSFlags

	json      bool
	verbose   int
	logFormat string
}

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] FILE.yaml…  |  run [flags] -H HOST… FILE.yaml  |  run [flags] -H HOST… -- COMMAND [ARG]…",
		Short: "Run a graph definition or a command on hosts",
		Long: `Runs a payload on every host: connect, make a directory, copy, tunnel etcd back, run, finish,
close the tunnel, clean up, disconnect. A host that fails never stops the others.

A HOST is [NAME=][user@]host[:port] or ssh://user:password@host:port; IPv6 addresses stand in
brackets. A password in a URL can be seen by everyone who sees the command line.

Arguments and --env values are templates: {{.Host}} {{.Run}} {{.Dir}} {{.Endpoint}} {{.OS}} {{.Arch}} {{.User}} {{.Home}}.

The first ^C ends the payloads properly and cleans up, the second does not wait for payloads,
the third tells the hosts to end by themselves and leaves.

Exit codes: 0 all good, 1 usage or configuration, 2 some host failed, 3 not converged within
--max-runtime, 4 only unreachable hosts, 5 taken over by another initiator, 130 interrupted.`,
		Example: `  mgmt-remote run site.yaml
  mgmt-remote run -H root@192.0.2.7 -H db2:2222 --converged-timeout 5s site.yaml
  mgmt-remote run -H h1 -H h2 -- uname -a
  mgmt-remote run -H h1 --binary ./check -- check --endpoint '{{.Endpoint}}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			files, command := args, []string(nil)
			if dash >= 0 {
				files, command = args[:dash], args[dash:]
			}
			return runFleet(cmd, &f, files, command)
		},
	}
	f.register(cmd)
	return cmd
}

func (f *runFlags) register(cmd *cobra.Command) {
	p := cmd.Flags()
	p.SortFlags = false
	p.StringArrayVarP(&f.hosts, "host", "H", nil, "a `HOST` to run on (repeatable)")
	p.StringVar(&f.prefix, "prefix", "", "`DIR` on the hosts to work in (default the first usable of /var/tmp, ~/.cache, /tmp)")
	p.StringVar(&f.binary, "binary", "", "local `FILE` that is copied and run as the command")
	p.StringArrayVar(&f.env, "env", nil, "`KEY=VALUE` for the payload's environment (repeatable)")
	p.StringVar(&f.endpoint, "endpoint", "unix", "the payload's etcd endpoint: unix or tcp (127.0.0.1, for its own user only)")
	p.BoolVar(&f.noop, "noop", false, "change nothing on the hosts, say what would be changed")
	p.BoolVar(&f.noWatch, "no-watch", false, "do not follow changes of the definition files (this version never does)")

	p.StringArrayVarP(&f.identities, "identity", "i", nil, "private key `FILE` (repeatable; default the usual ones in ~/.ssh, and the ssh-agent)")
	p.StringVar(&f.hostKeys, "host-key", "strict", "what to do about host keys: strict, accept-new or insecure")
	p.StringArrayVar(&f.knownHosts, "known-hosts", nil, "`FILE` of known host keys (repeatable; default ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts)")
	p.BoolVar(&f.askPass, "ask-pass", false, "ask once for a password for all hosts")
	p.BoolVar(&f.interactive, "interactive", false, "ask for a host's password when nothing else worked, 3 times at most")

	p.DurationVar(&f.connectTimeout, "connect-timeout", sshconn.DefaultConnectTimeout, "bound of one attempt to connect")
	p.DurationVar(&f.retryFor, "retry-for", fleet.DefaultRetryFor, "bound of all attempts in a row; 0 = only one, negative = for ever")
	p.DurationVar(&f.keepaliveInterval, "keepalive-interval", sshconn.DefaultKeepaliveInterval, "time between keepalives")
	p.IntVar(&f.keepaliveCount, "keepalive-count", sshconn.DefaultKeepaliveCount, "keepalives without an answer after which a connection is lost")

	p.IntVar(&f.maxConnections, "max-connections", 0, "hosts at work at the same time, 0 = unlimited; with fewer than hosts each ends on its own convergence")
	p.Var(&f.convergedTimeout, "converged-timeout", "end the run when all hosts had nothing to do for so long (5s, or bare seconds)")
	p.Var(&f.maxRuntime, "max-runtime", "end the run after so long, with exit code 3")
	p.DurationVar(&f.orphanTimeout, "orphan-timeout", 0, "how long a session lives without its initiator, negative = for ever (default 30m)")
	p.BoolVar(&f.noCache, "no-cache", false, "leave nothing at all on the hosts")
	p.BoolVar(&f.keepState, "keep-state", false, "keep this run's state and output in $XDG_STATE_HOME/mgmt-remote/runs afterwards")
	p.StringSliceVar(&f.etcdEndpoints, "etcd-endpoints", nil, "`URL`s of an etcd of your own (default: one inside this process)")
	f.etcdTLS.register(p)

	p.BoolVar(&f.json, "json", false, "one JSON event per line on stdout (docs/events.md)")
	p.CountVarP(&f.verbose, "verbose", "v", "say more; twice: log everything")
	p.StringVar(&f.logFormat, "log-format", "text", "log on stderr as text or json")
}

func runFleet(cmd *cobra.Command, f *runFlags, files, command []string) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	if f.binary != "" && len(command) == 0 {
		command = []string{f.binary}
	}
	if opts.Hosts, err = f.targets(files, command); err != nil {
		return err
	}
	opts.Payload.Command = command
	for _, h := range opts.Hosts {
		if h.Password != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "mgmt-remote: warning: the password of %s is in a URL, where others can see it; use a key or --ask-pass\n", h.Name)
		}
	}
	if f.hostKeys == string(fleet.HostKeysInsecure) {
		fmt.Fprintln(cmd.ErrOrStderr(), "mgmt-remote: warning: --host-key=insecure: anyone on the way can be the host")
	}
	return drive(cmd, opts, newPrinter(cmd.OutOrStdout(), f.json, f.verbose > 0))
}

// options makes the fleet's options of the flags, without hosts and command.
func (f *runFlags) options() (fleet.Options, error) {
	logger, err := newLogger(f.logFormat, f.verbose)
	if err != nil {
		return fleet.Options{}, err
	}
	if f.endpoint != "unix" && f.endpoint != "tcp" {
		return fleet.Options{}, fmt.Errorf("--endpoint %q: use unix or tcp", f.endpoint)
	}
	if f.maxConnections < 0 {
		return fleet.Options{}, errors.New("--max-connections is negative")
	}
	retryFor := f.retryFor
	if retryFor == 0 {
		retryFor = time.Nanosecond // only one attempt
	}
	tlsConfig, err := f.etcdTLS.config()
	if err != nil {
		return fleet.Options{}, err
	}
	ssh := fleet.SSH{
		ConnectTimeout: f.connectTimeout, KeepaliveInterval: f.keepaliveInterval, KeepaliveCount: f.keepaliveCount,
		HostKeys: fleet.HostKeys(f.hostKeys), KnownHosts: f.knownHosts, Identities: f.identities,
		AgentSocket: os.Getenv("SSH_AUTH_SOCK"), AskPassword: f.askPass, Interactive: f.interactive,
	}
	if canAsk() {
		ssh.Prompter = terminalPrompter{sshconn.NewTerminalPrompter()}
	}
	return fleet.Options{
		SSH:      ssh,
		Payload:  fleet.Payload{Env: f.env, Binary: f.binary, Noop: f.noop, TCP: f.endpoint == "tcp"},
		RetryFor: retryFor, MaxConnections: f.maxConnections,
		ConvergedTimeout: time.Duration(f.convergedTimeout), MaxRuntime: time.Duration(f.maxRuntime),
		OrphanTimeout: f.orphanTimeout, NoCache: f.noCache, KeepState: f.keepState,
		EtcdEndpoints: f.etcdEndpoints, EtcdTLS: tlsConfig, Logger: logger,
	}, nil
}

// canAsk reports whether there is a terminal to ask questions on.
func canAsk() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer tty.Close() //nolint:errcheck // it was only looked at
	return term.IsTerminal(int(tty.Fd()))
}
