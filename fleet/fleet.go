// Package fleet runs a payload on a fleet of machines over SSH with nothing installed on them. It is what the
// mgmt-remote command is made of, for programs that want the same inside:
//
//	f, err := fleet.New(fleet.Options{
//		Hosts:   []fleet.Host{{Name: "web1", Addr: "192.0.2.7", User: "root"}},
//		Payload: fleet.Payload{Command: []string{"uname", "-a"}},
//		Observe: func(e messages.Event) { fmt.Printf("%T %+v\n", e, e) },
//	})
//	…
//	report, err := f.Run(ctx)
//
// A Fleet is used once. New checks everything that can be checked without a connection; Run holds the etcd, the gateway
// and the actors, and returns when every host is done.
//
// Hosts get a small program, the shim. A program that was built without the embedded ones (see `make build`) can be
// the shim itself on hosts of its own platform: it calls ShimMain first thing in main.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/mgmt"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconfig"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Fleet is one run over a fleet. Run is called once; the other methods may be called from any goroutine while it runs.
type Fleet struct {
	opts    Options
	auth    *sshconn.Auth
	become  *becoming
	dialer  *sshconn.Dialer
	config  func() (*sshconfig.Config, error) // read when the first host needs it: those of a continued run don't
	payload *payload.Payload
	code    mgmt.Code // of an mgmt payload

	unsaved   chan struct{}   // full when the run's specification on the disk is older than what is wanted
	stopping  context.Context // ends with the first Stop
	stopBegun context.CancelFunc

	mu         sync.Mutex
	hosts      map[string]Host                // by name; only grows
	order      []string                       // their names, as they were given
	ways       map[string]*inventory.SSH      // settings that hosts share, by their text
	jumps      map[string][]inventory.Host    // jump hosts by how they were named
	given      map[string]messages.Definition // to the hosts, the newest ones
	checked    []byte                         // the last definition that was found good and is no template
	root       *actor.RootContext
	supervisor *actor.PID // nil before and after Run
	running    *running   // whose supervisor that is
	pending    messages.StopLevel
	handedOver bool
	paused     bool
	limit      int // of hosts in work at the same time; 0 = none
	ran        bool
}

// Report is how a run ended.
type Report struct {
	Run       string
	Took      time.Duration
	Converged bool   // the group did
	TimedOut  bool   // the maximum run time was over first
	Exceeded  string // why hosts were skipped; "" = none was
	Results   []messages.Result
	Etcd      EtcdUse
	Kept      Kept // what there is of it below StateDir now
}

// Kept says what is kept on this machine of a run that has ended, by what it is good for.
type Kept uint8

const (
	// KeptNothing: it is removed.
	KeptNothing Kept = iota
	// KeptToLookAt: KeepState asked for it.
	KeptToLookAt
	// KeptForRetry: RetryFailed makes a new run of it, for the hosts that did not succeed.
	KeptForRetry
	// KeptForResume: something may be left on hosts, and whoever continues the run looks after that.
	KeptForResume
)

// EtcdUse is what the hosts together used of the run's etcd.
type EtcdUse struct {
	Requests uint64 // requests and stream messages
	Events   uint64 // changes of keys that watches were told
	Written  uint64 // bytes
}

// New checks the options and reads the keys; it makes no connection. Close the fleet also where Run is never called.
func New(opts Options) (*Fleet, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Observe == nil {
		opts.Observe = func(messages.Event) {}
	}
	f := &Fleet{opts: opts, hosts: map[string]Host{}, ways: map[string]*inventory.SSH{}, jumps: map[string][]inventory.Host{}, given: map[string]messages.Definition{}, unsaved: make(chan struct{}, 1), limit: opts.MaxConnections}
	f.stopping, f.stopBegun = context.WithCancel(context.Background())
	if err := f.prepare(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.lookAhead()
	for _, h := range opts.Hosts {
		if _, err := f.register(h); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := f.checkRollout(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fleet) prepare() error {
	o := f.opts.SSH
	policy := sshconn.Strict
	switch o.HostKeys {
	case HostKeysStrict, "":
	case HostKeysAcceptNew:
		policy = sshconn.AcceptNew
	case HostKeysAsk:
		policy = sshconn.Ask
	case HostKeysInsecure:
		policy = sshconn.Insecure
	default:
		return fmt.Errorf("unknown host key policy %q: use strict, ask, accept-new or insecure", o.HostKeys)
	}
	switch f.opts.Converge {
	case ConvergeAuto, ConvergeGroup, ConvergeHost:
	default:
		return fmt.Errorf("unknown convergence %q: use group or host", f.opts.Converge)
	}
	switch f.opts.OnReboot {
	case "", RebootFail, RebootRerun:
	default:
		return fmt.Errorf("unknown policy for reboots %q: use %s or %s", f.opts.OnReboot, RebootFail, RebootRerun)
	}
	var err error
	f.config = sync.OnceValues(func() (*sshconfig.Config, error) { return sshconfig.Load(sshconfig.Options{File: o.Config}) })
	whom := oneAtATime(o.Prompter)
	confirm, _ := whom.(sshconn.Confirmer) // nil where it can't
	hostKeys, err := sshconn.NewHostKeys(sshconn.HostKeyOptions{Policy: policy, Files: o.KnownHosts, Confirm: confirm})
	if err != nil {
		return err
	}
	auth := sshconn.AuthOptions{Identities: o.Identities, AgentSocket: o.AgentSocket, AskPassword: o.AskPassword, Interactive: o.Interactive, Prompter: whom}
	if o.Password != nil {
		auth.Password = func(ctx context.Context, h inventory.Host) (Secret, error) {
			return o.Password(ctx, Login{Host: h.Name, Addr: h.Addr, User: h.User})
		}
	}
	if f.auth, err = sshconn.NewAuth(auth); err != nil {
		return err
	}
	f.become = newBecoming(f.opts.Become, whom)
	f.dialer, err = sshconn.NewDialer(sshconn.Options{
		ConnectTimeout: o.ConnectTimeout, ChannelTimeout: o.ChannelTimeout,
		KeepaliveInterval: o.KeepaliveInterval, KeepaliveCount: o.KeepaliveCount,
		HostKeys: hostKeys, Auth: f.auth, NetDial: o.NetDial, Logger: f.opts.Logger,
	})
	if err != nil {
		return err
	}
	if f.opts.Stay && f.opts.OrphanTimeout == 0 {
		f.opts.OrphanTimeout = StayOrphanTimeout
	}
	p := f.opts.Payload
	spec := payload.Options{
		Kind: payload.Graph, Argv: p.Command, Env: p.Env, Binary: p.Binary, Noop: p.Noop, Watch: !p.NoWatch, FailedTimeout: f.opts.ConvergedTimeout,
		Endpoint: wire.EndpointUnix, OrphanTimeout: f.opts.OrphanTimeout, OutputCap: f.opts.OutputCap, NoCache: f.opts.NoCache,
	}
	switch {
	case p.Mgmt != nil && (len(p.Command) > 0 || p.Binary != ""):
		return errors.New("the payload is mgmt or a command, not both")
	case p.Mgmt != nil:
		if f.code, err = checkMgmt(*p.Mgmt); err != nil {
			return err
		}
		spec.Kind, spec.Binary = payload.Mgmt, p.Mgmt.Binary
	case len(p.Command) > 0:
		spec.Kind = payload.Command
	}
	switch p.Restart {
	case "", RestartNever, RestartOnFailure, RestartAlways:
		spec.Restart.Policy = string(p.Restart)
	default:
		return fmt.Errorf("unknown restart policy %q: use %s, %s or %s", p.Restart, RestartNever, RestartOnFailure, RestartAlways)
	}
	if p.TCP {
		spec.Endpoint = wire.EndpointTCP
	}
	f.payload, err = payload.New(spec)
	return err
}

// Add brings a host into a run that goes on. A name that is there already is an error. It may be called before Run.
func (f *Fleet) Add(h Host) error {
	name, err := f.register(h)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed()
	if f.supervisor != nil {
		f.root.Send(f.supervisor, messages.AddHost{Host: name, Definition: f.given[name]})
	}
	return nil
}

// changed has the run's specification saved anew. It never waits.
func (f *Fleet) changed() {
	select {
	case f.unsaved <- struct{}{}:
	default:
	}
}

// Retry ends a host's waiting for its next attempt to connect, or that of all hosts where the name is empty.
func (f *Fleet) Retry(name string) { f.tell(messages.RetryHost{Host: name}) }

// Remove takes a host out of the run: its payload is finished and everything cleaned up. It does not wait.
func (f *Fleet) Remove(name string) { f.tell(messages.RemoveHost{Host: name}) }

// Stop asks for the end of the run; a higher level asks harder. It does not wait: Run returns when it is done.
func (f *Fleet) Stop(level messages.StopLevel) {
	f.mu.Lock()
	f.pending = max(f.pending, level)
	f.mu.Unlock()
	f.stopBegun()
	f.tell(messages.StopRun{Level: level})
}

// HandOver has Run return without touching anything on any host, as if this process had died: another initiator goes on. The
// outcome of hosts that were not done is OutcomeTakenOver. It does not wait.
func (f *Fleet) HandOver() {
	f.stopBegun()
	f.mu.Lock()
	f.handedOver = true
	f.mu.Unlock()
	f.tell(messages.HandOver{})
}

func (f *Fleet) tell(message any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.supervisor != nil {
		f.root.Send(f.supervisor, message)
	}
}

// register checks a host and keeps it; the supervisor knows hosts by name only.
func (f *Fleet) register(h Host) (string, error) {
	if err := inventory.ValidName(h.Name); err != nil {
		return "", err
	}
	if h.Addr == "" {
		return "", fmt.Errorf("host %s has no address", h.Name)
	}
	if h.Port < 0 || h.Port > 65535 {
		return "", fmt.Errorf("host %s: port %d is not between 1 and 65535", h.Name, h.Port)
	}
	if h.Jump = cmp.Or(h.Jump, f.opts.SSH.Jump); h.Jump != "" {
		if _, err := inventory.ParseJump(h.Jump); err != nil {
			return "", fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	if h.Prefix != "" {
		if err := probe.ValidPath(h.Prefix); err != nil {
			return "", fmt.Errorf("host %s: prefix %w", h.Name, err)
		}
	}
	if err := h.becomes().Check(); err != nil {
		return "", fmt.Errorf("host %s: %w", h.Name, err)
	}
	if f.isGraph() {
		if h.Definition == nil {
			return "", fmt.Errorf("host %s has neither a graph definition nor a command to run", h.Name)
		}
		if err := f.check(h); err != nil {
			return "", err
		}
	}
	if h.reached == nil {
		to, err := f.reach(h)
		if err != nil {
			return "", err
		}
		h.reached = &to
	}
	if err := f.auth.CheckMethods(inventoryHost(h)); err != nil {
		return "", fault.Wrap(fault.Denied, "connect", err).WithHost(h.Name)
	}
	if err := f.become.check(h); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.hosts[h.Name]; ok {
		return "", fmt.Errorf("host %s is named twice", h.Name)
	}
	if limit := f.limit; f.opts.Converge == ConvergeGroup && limit > 0 && limit <= len(f.hosts) {
		return "", fmt.Errorf("host %s: a group converges only while all its hosts run, and no more than %d can at the same time", h.Name, limit)
	}
	f.hosts[h.Name] = h
	f.order = append(f.order, h.Name)
	if f.isGraph() {
		f.given[h.Name] = messages.Definition{Version: 1, Source: h.Definition}
	}
	return h.Name, nil
}

// inventoryHost is for hosts that are registered.
func inventoryHost(h Host) inventory.Host {
	to := *h.reached
	to.Name, to.Password, to.Shared, to.Prefix = h.Name, h.Password, h.Shared, h.Prefix
	return to
}

// Unlock asks for everything that would be asked for when the first host wants it: the passwords for all hosts, and the passphrases of
// keys that no agent has. It is for processes that lose their terminal later. Where a key that was named stays locked, the error is a fault.
func (f *Fleet) Unlock(ctx context.Context) error {
	f.mu.Lock()
	hosts := make([]Host, 0, len(f.order))
	reached := make([]inventory.Host, 0, len(f.order))
	for _, name := range f.order {
		h := f.hosts[name]
		hosts, reached = append(hosts, h), append(reached, inventoryHost(h))
	}
	f.mu.Unlock()
	if err := f.auth.Unlock(ctx, reached); err != nil {
		return err
	}
	return f.become.unlock(ctx, hosts)
}

// Close gives back what New opened. It is called after Run has returned, or instead of Run.
func (f *Fleet) Close() error {
	f.stopBegun()
	var errs []error
	if f.payload != nil {
		errs = append(errs, f.payload.Close())
	}
	if f.dialer != nil {
		errs = append(errs, f.dialer.Close())
	}
	if f.auth != nil {
		errs = append(errs, f.auth.Close())
	}
	return errors.Join(errs...)
}
