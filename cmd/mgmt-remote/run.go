//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// The kinds of etcd endpoint that a payload can be given.
const (
	endpointUnix = "unix"
	endpointTCP  = "tcp"
)

var restartPolicies = []string{string(fleet.RestartNever), string(fleet.RestartOnFailure), string(fleet.RestartAlways)}

var rebootPolicies = []string{string(fleet.RebootFail), string(fleet.RebootRerun)}

var hostKeyPolicies = []string{string(fleet.HostKeysStrict), string(fleet.HostKeysAcceptNew), string(fleet.HostKeysAsk), string(fleet.HostKeysInsecure)}

var convergences = []string{string(fleet.ConvergeGroup), string(fleet.ConvergeHost)}

// runFlags are the flags of run, as given.
type runFlags struct {
	hosts  hostFlags
	prefix string

	retryFailed string // the run
	dryRun      bool

	payload  string
	binary   string
	env      []string
	vars     []string
	endpoint string
	noop     bool
	noWatch  bool

	restart  string
	onReboot string

	ssh         sshFlags
	identities  []string
	hostKeys    string
	knownHosts  []string
	password    passwordFlags
	jump        string
	interactive bool

	connectTimeout    seconds
	retryFor          patience
	stay              bool
	keepaliveInterval seconds
	keepaliveCount    int

	rollout rolloutFlags

	maxConnections   int
	converge         string
	convergedTimeout seconds
	maxRuntime       seconds
	orphanTimeout    patience
	detach           bool
	noCache          bool
	keepState        bool
	etcdEndpoints    []string
	etcdTLS          etcdTLSFlags
	become           becomeFlags

	output    outputFlags
	verbose   int
	logFormat string
}

// defaultRunFlags has the defaults that are not given with the flags.
func defaultRunFlags() runFlags {
	return runFlags{
		connectTimeout: seconds(sshconn.DefaultConnectTimeout), keepaliveInterval: seconds(sshconn.DefaultKeepaliveInterval),
		retryFor: patience(fleet.DefaultRetryFor), orphanTimeout: patience(payload.DefaultOrphanTimeout),
	}
}

func newRunCommand() *cobra.Command {
	f := defaultRunFlags()
	cmd := &cobra.Command{
		Use: `run [flags] FILE.yaml…
  mgmt-remote run [flags] -H HOST… FILE.yaml
  mgmt-remote run [flags] -H HOST… -- COMMAND [ARG]…
  mgmt-remote run [flags] -H HOST… --payload mgmt --binary MGMT CODE
  mgmt-remote run [flags] --retry-failed RUN [FILE.yaml | -- COMMAND [ARG]…]`,
		Short: "Run a graph definition, a command or mgmt on hosts",
		Long: `Run a payload on every host: connect, make a directory, copy, tunnel etcd back,
run, finish, close the tunnel, clean up, disconnect. A host that fails never
stops the others.

The payload is a definition, or a command. A definition runs on the hosts named
with -H, or on the one that its key "remote:" names. It is kept applied until
^C, or until all hosts had nothing to do for --converged-timeout. What is saved
to the file meanwhile is checked and goes to its hosts; what is no good is told,
and changes nothing.

A file that is called *.yaml.tmpl is a template, rendered for each host over
{{.Host}} {{.Run}} {{.Addr}} {{.User}} {{.Home}} {{.OS}} {{.Arch}} {{.Kernel}}
{{.BootID}} and {{.Vars.KEY}}.

With --detach the run goes on without this terminal. What it does is shown by
"attach", what it logs is in initiator.log in its directory (see "runs"), where
its output and its end are kept, too.

With --payload mgmt the hosts run mgmt 1.x, a program of yours. CODE, a .mcl or
.yaml file or a directory, is deployed once with "mgmt deploy" on this machine,
before any host is connected. Every host can then write all that mgmt keeps in
etcd: it trusts the whole fleet.

A HOST is [NAME=][USER@]HOST[:PORT] or ssh://USER:PASSWORD@HOST:PORT; before a
port, an IPv6 address stands in brackets. Everyone who sees the command line
sees a password in it: use a key, or --ask-pass. Other brackets make many of one
(web[1-20,30], rack[01-12][a,b]), and , ! & ^ are union, difference,
intersection and what is in one only.

Inventories (-I, --inventory-cmd) name hosts with groups, labels and variables,
which templates find in .Vars; see docs/inventory.md. With -H, too, only the
hosts of -H are meant, with what the inventories say of them.

COMMAND, ARG and the values of --env are templates over {{.Host}} {{.Run}}
{{.Dir}} {{.Endpoint}} {{.OS}} {{.Arch}} {{.User}} {{.Home}}.

The first ^C ends the payloads properly and cleans up, the second does not wait
for payloads, the third tells the hosts to end by themselves and leaves.

Exit codes: 0 all good, 1 usage or configuration, 2 some host failed, 3 not
converged within --max-runtime, 4 only unreachable hosts, 5 taken over by
another initiator, 130 interrupted.`,
		Example: `  mgmt-remote run site.yaml
  mgmt-remote run -H root@192.0.2.7 -H db2:2222 --converged-timeout 5s site.yaml
  mgmt-remote run -H h1 -H h2 --var port=80 --var h2:port=8080 web.yaml.tmpl
  mgmt-remote run -H 'root@web[1-20]' -- uname -a
  mgmt-remote run -I fleet.yaml -l 'web & !dc2' site.yaml
  mgmt-remote run -I fleet.yaml -o fold --diff -- uname -r
  mgmt-remote run -H h1 --on-reboot rerun --retry-for 10m -- ./next-step
  mgmt-remote run -H h1 --binary ./check -- check --to '{{.Endpoint}}'
  mgmt-remote run -H h1 -H h2 --payload mgmt --binary ./mgmt site.mcl`,
		ValidArgsFunction: completeTemplates,
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
	flagGroup(p, "Hosts and payload", func(p *pflag.FlagSet) {
		f.hosts.register(p, "a `HOST` to run on, or many: 'web[1-20]' (repeatable)")
		p.StringVar(&f.retryFailed, "retry-failed", "", "run on the hosts of `RUN` that did not succeed, what was run then unless something else is named (docs/rollout.md)")
		p.StringVar(&f.prefix, "prefix", "", "work in `DIR` on the hosts (default: the first usable of /var/tmp, ~/.cache, /tmp)")
		p.StringVar(&f.payload, "payload", "", "`KIND` of payload: graph, command or mgmt (default: a command after --, else a graph)")
		p.StringVar(&f.binary, "binary", "", "copy the local `FILE` and run it as the command, or as mgmt")
		p.StringArrayVar(&f.env, "env", nil, "set `KEY=VALUE` in the payload's environment (repeatable)")
		p.StringVar(&f.endpoint, "endpoint", endpointUnix, "`KIND` of the payload's etcd endpoint: unix (a socket) or tcp (127.0.0.1, for its own user only)")
		p.StringVar(&f.restart, "restart", string(fleet.RestartNever), "`POLICY` for payloads that end: never, on-failure or always; the host starts them again, 1 to 60 seconds later")
		p.StringVar(&f.onReboot, "on-reboot", string(fleet.RebootFail), "`POLICY` for payloads whose host is rebooted: fail (the host failed), or rerun (started again from the beginning; give --retry-for the time that a boot takes)")
		p.BoolVar(&f.noop, "noop", false, "change nothing on the hosts, say what would be changed")
		p.BoolVar(&f.dryRun, "dry-run", false, "connect, look, and say what would be copied and started; change nothing on the hosts")
		p.StringArrayVar(&f.vars, "var", nil, "set `[HOST:]KEY=VALUE` for templates, {{.Vars.KEY}} (repeatable)")
		p.BoolVar(&f.noWatch, "no-watch", false, "do not follow changes of the definition files while the payloads run")
		p.BoolVar(&f.noCache, "no-cache", false, "leave nothing at all on the hosts, no copies either")
	})
	flagGroup(p, "Connections", func(p *pflag.FlagSet) {
		f.connect(p)
		p.Var(&f.retryFor, "retry-for", "give up a host after `TIME` without success; 0 = one attempt, or forever")
		p.BoolVar(&f.stay, "stay", false, "never give up: try hosts for ever, also those that refuse us after they were well; sessions wait 7 days for us")
		p.IntVar(&f.maxConnections, "max-connections", 0, "work on `N` hosts at the same time, 0 = all")
		f.rollout.registerBounds(p)
	})
	flagGroup(p, "Another user", f.become.register)
	flagGroup(p, "Waves", f.rollout.register)
	flagGroup(p, "End of the run", func(p *pflag.FlagSet) {
		p.Var(&f.convergedTimeout, "converged-timeout", "end the run when all hosts had nothing to do for `TIME`")
		p.StringVar(&f.converge, "converge", "", "`WHAT` ends when it had nothing to do: the group of all hosts, or each host on its own (default: group, or host where --max-connections is lower than the number of hosts)")
		p.Var(&f.maxRuntime, "max-runtime", "end the run after `TIME`, with exit code 3")
		p.Var(&f.orphanTimeout, "orphan-timeout", "a session ends by itself after `TIME` without us, or never: forever")
		p.BoolVar(&f.detach, "detach", false, "print the run's ID once it has begun, and go on in the background: see attach, status and stop; sessions wait 7 days for us")
		p.BoolVar(&f.keepState, "keep-state", false, "keep this run's state and output below $XDG_STATE_HOME/mgmt-remote/runs")
	})
	flagGroup(p, "Etcd", func(p *pflag.FlagSet) {
		p.StringSliceVar(&f.etcdEndpoints, "etcd-endpoints", nil, "`URL`s of an etcd of your own (default: one inside this process)")
		f.etcdTLS.register(p)
	})
	flagGroup(p, "Output", func(p *pflag.FlagSet) {
		f.output.register(p)
		f.output.registerFiles(p)
		p.CountVarP(&f.verbose, "verbose", "v", "``say more; twice: log everything")
		p.StringVar(&f.logFormat, "log-format", "text", "`FORMAT` of the log on stderr: text or json")
	})
	p.Lookup("converged-timeout").DefValue = "" // 0 is a value of its own: at once
	p.Lookup("max-runtime").DefValue = ""
	f.complete(cmd)
	f.rollout.complete(cmd)
	completeWith(cmd, "retry-failed", func(cmd *cobra.Command, _ []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completeRuns(fleet.RunFinished)(cmd, nil, text)
	})
}

// connect adds the flags that say how a connection is made.
func (f *runFlags) connect(p *pflag.FlagSet) {
	f.ssh.register(p)
	p.StringArrayVarP(&f.identities, "identity", "i", nil, "private key `FILE` (repeatable; default: the usual ones in ~/.ssh, and the ssh-agent)")
	p.StringVarP(&f.jump, "jump", "J", "", "reach all hosts through jump hosts, `[USER@]HOST[:PORT],...`, each connected once")
	f.password.register(p, loginPassword)
	p.BoolVar(&f.interactive, "interactive", false, "ask for a host's password when nothing else worked, 3 times at most")
	p.StringVar(&f.hostKeys, "host-key", string(fleet.HostKeysStrict), "`POLICY` for host keys: strict, accept-new, ask or insecure")
	p.StringArrayVar(&f.knownHosts, "known-hosts", nil, "`FILE` of known host keys (repeatable; default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts)")
	p.Var(&f.connectTimeout, "connect-timeout", "give up one attempt to connect after `TIME`")
	p.Var(&f.keepaliveInterval, "keepalive-interval", "`TIME` between keepalives")
	p.IntVar(&f.keepaliveCount, "keepalive-count", sshconn.DefaultKeepaliveCount, "a connection is lost after `N` keepalives without an answer")
}

func runFleet(cmd *cobra.Command, f *runFlags, files, command []string) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	f.output.plans = f.dryRun
	show, err := f.output.open(cmd.OutOrStdout(), f.verbose > 0)
	if err != nil {
		return err
	}
	if f.detach {
		if err := f.output.nothingShown(); err != nil {
			return err
		}
		if !cmd.Flags().Changed("orphan-timeout") {
			opts.OrphanTimeout = fleet.StayOrphanTimeout
		}
	}
	if f.retryFailed != "" {
		return runAgain(cmd, f, show, files, command)
	}
	if f.stay {
		if cmd.Flags().Changed("retry-for") {
			return errors.New("--stay never gives up: leave out --retry-for")
		}
		opts.Stay = true
		if !cmd.Flags().Changed("orphan-timeout") {
			opts.OrphanTimeout = fleet.StayOrphanTimeout
		}
	}
	if cmd.Flags().Changed("converged-timeout") && f.convergedTimeout == 0 {
		opts.ConvergedTimeout = time.Nanosecond // at once; the fleet's 0 is "never"
	}
	if f.detach && slices.Contains(f.hosts.inventories, stdinName) {
		return errors.New("--detach begins the run in another process, and standard input can be read once: give -I a file")
	}
	entries, err := f.hosts.choose(cmd)
	if err != nil {
		return err
	}
	sources, err := f.choose(&opts, entries, files, command)
	if err != nil {
		return err
	}
	if err := f.rollout.apply(&opts, entries); err != nil {
		return err
	}
	if n := len(opts.Hosts); opts.Converge == fleet.ConvergeGroup && f.maxConnections > 0 && f.maxConnections < n {
		return fmt.Errorf("--converge group needs all %d hosts at the same time, and --max-connections %d does not let them: "+
			"a group has converged only while all of it runs; use --converge host, or more connections", n, f.maxConnections)
	}
	for i, s := range sources {
		if h := opts.Hosts[i]; s.remote && h.Password != "" {
			say(cmd.ErrOrStderr(), "warning: the password of %s is in a URL, where others can see it; use a key or --ask-pass", h.Name)
		}
	}
	if f.hostKeys == string(fleet.HostKeysInsecure) {
		say(cmd.ErrOrStderr(), "warning: --host-key=insecure: anyone on the way can be the host")
	}
	var beside func(context.Context, *fleet.Fleet)
	if len(sources) > 0 && !f.noWatch {
		follower, err := newFollower(cmd.ErrOrStderr(), opts.Hosts, sources)
		if err != nil {
			return err
		}
		beside = follower.run
	}
	return f.begin(cmd, opts, show, beside)
}

// begin runs a fleet, here or in the background.
func (f *runFlags) begin(cmd *cobra.Command, opts fleet.Options, show shown, beside func(context.Context, *fleet.Fleet)) error {
	if opts.DryRun = f.dryRun; f.dryRun {
		if f.detach {
			return errors.New("--dry-run is over soon, and shows what would be done: leave out --detach")
		}
		return drive(cmd, opts, show, nil)
	}
	if f.detach {
		return detach(cmd, opts, show.files(), beside)
	}
	opts.SSH.Prompter = show.asking(opts.SSH.Prompter)
	asks, can := opts.SSH.Prompter.(fleet.Confirmer)
	if opts.Rollout.Confirm && can && show.view() == nil { // which asks itself
		c := newConfirmer(asks)
		opts.Observe, beside = c.observe, both(beside, c.run)
	}
	return drive(cmd, opts, show, beside)
}

// options makes the fleet's options of the flags, without hosts and command.
func (f *runFlags) options() (fleet.Options, error) {
	logger, err := newLogger(f.logFormat, f.verbose)
	if err != nil {
		return fleet.Options{}, err
	}
	if err := f.check(); err != nil {
		return fleet.Options{}, err
	}
	retryFor := time.Duration(f.retryFor)
	if retryFor == 0 {
		retryFor = fleet.RetryOnce
	}
	tlsConfig, err := f.etcdTLS.config(len(f.etcdEndpoints) > 0)
	if err != nil {
		return fleet.Options{}, err
	}
	var become fleet.Become
	if become.AskPassword, become.Password, err = f.become.password.options(f.detach); err != nil {
		return fleet.Options{}, err
	}
	ssh := fleet.SSH{
		Config: f.ssh.config, Jump: f.jump, KnownHosts: f.knownHosts, Identities: f.identities,
		AgentSocket: os.Getenv("SSH_AUTH_SOCK"), Interactive: f.interactive,
	}
	f.ssh.said(f, &ssh)
	if ssh.AskPassword, ssh.Password, err = f.password.options(f.detach); err != nil {
		return fleet.Options{}, err
	}
	if canAsk() {
		ssh.Prompter = sshconn.NewTerminalPrompter()
	}
	return fleet.Options{
		SSH:      ssh,
		Become:   become,
		Payload:  fleet.Payload{Env: f.env, Binary: f.binary, Noop: f.noop, NoWatch: f.noWatch, TCP: f.endpoint == endpointTCP, Restart: fleet.Restart(f.restart)},
		RetryFor: retryFor, OnReboot: fleet.OnReboot(f.onReboot), MaxConnections: f.maxConnections, Converge: fleet.Converge(f.converge),
		ConvergedTimeout: time.Duration(f.convergedTimeout), MaxRuntime: time.Duration(f.maxRuntime),
		OrphanTimeout: time.Duration(f.orphanTimeout), NoCache: f.noCache, KeepState: f.keepState,
		EtcdEndpoints: f.etcdEndpoints, EtcdTLS: tlsConfig, Logger: logger,
	}, nil
}

// check refuses values that no other package looks at before a connection is made.
func (f *runFlags) check() error {
	if f.endpoint != endpointUnix && f.endpoint != endpointTCP {
		return fmt.Errorf("--endpoint %q: use unix or tcp", f.endpoint)
	}
	if f.converge != "" && !slices.Contains(convergences, f.converge) {
		return fmt.Errorf("--converge %q: use group or host", f.converge)
	}
	if f.restart != "" && !slices.Contains(restartPolicies, f.restart) {
		return fmt.Errorf("--restart %q: use never, on-failure or always", f.restart)
	}
	if f.onReboot != "" && !slices.Contains(rebootPolicies, f.onReboot) {
		return fmt.Errorf("--on-reboot %q: use fail or rerun", f.onReboot)
	}
	if !slices.Contains(hostKeyPolicies, f.hostKeys) {
		return fmt.Errorf("--host-key %q: use strict, accept-new, ask or insecure", f.hostKeys)
	}
	if f.prefix != "" {
		if err := probe.ValidPath(f.prefix); err != nil {
			return fmt.Errorf("--prefix %q: %w", f.prefix, err)
		}
	}
	if f.hostKeys == string(fleet.HostKeysAsk) && !canAsk() {
		return errors.New("--host-key ask: there is no terminal to ask on")
	}
	if f.hostKeys == string(fleet.HostKeysStrict) { // accept-new makes the file
		for _, file := range f.knownHosts {
			if _, err := os.Stat(file); err != nil {
				return fmt.Errorf("--known-hosts: %w", err)
			}
		}
	}
	switch {
	case f.connectTimeout == 0:
		return errors.New("--connect-timeout 0: no connection can be made in that time")
	case f.keepaliveInterval == 0:
		return errors.New("--keepalive-interval 0: use a time such as 15s")
	case f.keepaliveCount < 1:
		return fmt.Errorf("--keepalive-count %d: use 1 or more", f.keepaliveCount)
	case f.maxConnections < 0:
		return fmt.Errorf("--max-connections %d: use 0 (all hosts) or more", f.maxConnections)
	}
	return checkEndpoints(f.etcdEndpoints)
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
