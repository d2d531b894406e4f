package fleet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/host"
	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconfig"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
)

// specVersion is that of the format below; a change that older programs would misread raises it.
const specVersion = 1

// spec is what a run is to do, as it is kept for an initiator that comes after a crash. It holds no secrets: passwords
// are asked for again.
type spec struct {
	Version     int             `json:"version"`
	Hosts       []specHost      `json:"hosts"`
	Definitions [][]byte        `json:"definitions,omitempty"` // many hosts have the same one
	Settings    []inventory.SSH `json:"settings,omitempty"`    // the same
	Jumps       []specWay       `json:"jumps,omitempty"`       // jump hosts, those in front of others before them
	Payload     Payload         `json:"payload"`
	SSH         specSSH         `json:"ssh"`

	BecomePassword bool `json:"become_password,omitempty"` // there was one

	RetryFor         time.Duration `json:"retry_for_ns"`
	Stay             bool          `json:"stay,omitempty"`
	OnReboot         OnReboot      `json:"on_reboot,omitempty"`
	MaxConnections   int           `json:"max_connections"`
	MaxHandshakes    int           `json:"max_handshakes,omitempty"`
	MaxUploads       int           `json:"max_uploads,omitempty"`
	Rollout          Rollout       `json:"rollout,omitzero"`
	Converge         Converge      `json:"converge"`
	ConvergedTimeout time.Duration `json:"converged_timeout_ns"`
	MaxRuntime       time.Duration `json:"max_runtime_ns"`
	OrphanTimeout    time.Duration `json:"orphan_timeout_ns"`
	OutputCap        int64         `json:"output_cap"`
	NoCache          bool          `json:"no_cache"`
	KeepState        bool          `json:"keep_state"`

	EtcdEndpoints []string            `json:"etcd_endpoints,omitempty"`
	EtcdTLS       bool                `json:"etcd_tls,omitempty"` // keys can't be kept: whoever continues brings them
	Deadlines     host.Deadlines      `json:"deadlines_ns"`
	Patience      supervisor.Patience `json:"patience_ns"`
}

type specHost struct {
	Name       string            `json:"name"`
	Addr       string            `json:"addr"`
	Port       int               `json:"port"`
	User       string            `json:"user,omitempty"`
	Password   bool              `json:"password,omitempty"` // there was one
	Identities []string          `json:"identities,omitempty"`
	Shared     string            `json:"shared,omitempty"`
	Jump       string            `json:"jump,omitempty"`
	Way        *specWay          `json:"way,omitempty"` // how it is connected, so that no later change of OpenSSH's configuration changes it
	Prefix     string            `json:"prefix,omitempty"`
	BecomeUser string            `json:"become_user,omitempty"`
	Method     string            `json:"become_method,omitempty"`
	Becoming   string            `json:"become_shared,omitempty"` // whom it shares the password for that with
	Definition int               `json:"definition"`              // index, -1 = none
	File       string            `json:"file,omitempty"`
	Vars       map[string]string `json:"vars,omitempty"`
	Follow     string            `json:"follow,omitempty"`
}

type specSSH struct {
	Config            string        `json:"config,omitempty"`
	ConnectTimeout    time.Duration `json:"connect_timeout_ns"`
	ChannelTimeout    time.Duration `json:"channel_timeout_ns"`
	KeepaliveInterval time.Duration `json:"keepalive_interval_ns"`
	KeepaliveCount    int           `json:"keepalive_count"`
	Jump              string        `json:"jump,omitempty"`
	HostKeys          HostKeys      `json:"host_keys"`
	KnownHosts        []string      `json:"known_hosts,omitempty"`
	Identities        []string      `json:"identities,omitempty"`
	AgentSocket       string        `json:"agent_socket,omitempty"`
	AskPassword       bool          `json:"ask_password"`
	Interactive       bool          `json:"interactive"`
}

// saveSpec keeps what the fleet is to do by now.
func (f *Fleet) saveSpec(run *store.Run) error {
	s, err := f.spec()
	if err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap(fault.Bug, "save the run's specification", err)
	}
	return run.SaveSpec(data)
}

func (f *Fleet) spec() (spec, error) {
	o := f.opts
	s := spec{
		Version: specVersion, Payload: o.Payload, RetryFor: o.RetryFor, Stay: o.Stay, OnReboot: o.OnReboot,
		MaxHandshakes: o.MaxHandshakes, MaxUploads: o.MaxUploads, Rollout: o.Rollout,
		Converge: o.Converge, ConvergedTimeout: o.ConvergedTimeout, MaxRuntime: o.MaxRuntime, OrphanTimeout: o.OrphanTimeout, OutputCap: o.OutputCap,
		NoCache: o.NoCache, KeepState: o.KeepState, EtcdEndpoints: o.EtcdEndpoints, EtcdTLS: o.EtcdTLS != nil,
		Deadlines: o.Deadlines, Patience: o.Patience,
		SSH: specSSH{
			Config: o.SSH.Config, ConnectTimeout: o.SSH.ConnectTimeout, ChannelTimeout: o.SSH.ChannelTimeout, KeepaliveInterval: o.SSH.KeepaliveInterval,
			KeepaliveCount: o.SSH.KeepaliveCount, Jump: o.SSH.Jump, HostKeys: o.SSH.HostKeys, KnownHosts: slices.Clone(o.SSH.KnownHosts),
			Identities: slices.Clone(o.SSH.Identities), AgentSocket: o.SSH.AgentSocket, AskPassword: o.SSH.AskPassword || o.SSH.Password != nil,
			Interactive: o.SSH.Interactive,
		},
	}
	s.BecomePassword = o.Become.AskPassword || o.Become.Password != nil
	names := []*string{&s.Payload.Binary, &s.SSH.AgentSocket}
	if o.SSH.Config != sshconfig.None {
		names = append(names, &s.SSH.Config)
	}
	if m := s.Payload.Mgmt; m != nil {
		c := *m
		s.Payload.Mgmt = &c
		names = append(names, &c.Binary, &c.Code)
	}
	for _, list := range [][]string{s.SSH.KnownHosts, s.SSH.Identities} {
		for i := range list {
			names = append(names, &list[i])
		}
	}
	for _, name := range names {
		if err := makeAbsolute(name); err != nil {
			return s, fault.Wrap(fault.Environment, "save the run's specification", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.MaxConnections = f.limit
	if f.running != nil && f.running.alone {
		s.Converge = ConvergeHost // also where the number of connections has become another one
	}
	known := map[string]int{}
	whose := f.ownBecomePasswords()
	ways := newWayKeeper(&s)
	for _, name := range f.order {
		h := f.hosts[name]
		sh := specHost{
			Name: h.Name, Addr: h.Addr, Port: h.Port, User: h.User, Password: h.Password != "", Jump: h.Jump, Prefix: h.Prefix,
			BecomeUser: h.BecomeUser, Method: h.BecomeMethod, Identities: h.Identities, Shared: h.Shared, Becoming: cmp.Or(whose[h.BecomePassword], h.BecomeShared), Definition: -1, File: h.File, Vars: h.Vars, Follow: h.Follow,
		}
		if d := f.given[h.Name]; d.Version > 0 {
			i, there := known[string(d.Source)]
			if !there {
				i = len(s.Definitions)
				known[string(d.Source)] = i
				s.Definitions = append(s.Definitions, d.Source)
			}
			sh.Definition = i
		}
		way := ways.keep(*h.reached)
		sh.Way = &way
		s.Hosts = append(s.Hosts, sh)
	}
	return s, nil
}

// ownBecomePasswords names, for each password to become another user that hosts have of their own, these hosts: they are asked for it
// together by whoever continues the run. f.mu is held.
func (f *Fleet) ownBecomePasswords() map[Secret]string {
	hosts := map[Secret][]string{}
	for _, name := range f.order {
		if secret := f.hosts[name].BecomePassword; secret != "" {
			hosts[secret] = append(hosts[secret], name)
		}
	}
	whose := make(map[Secret]string, len(hosts))
	for secret, names := range hosts {
		whose[secret] = nodeset.Fold(names)
	}
	return whose
}

// makeAbsolute is for files of this machine: whoever continues the run may be started elsewhere.
func makeAbsolute(name *string) (err error) {
	if *name != "" && !strings.HasPrefix(*name, "~") {
		*name, err = filepath.Abs(*name)
	}
	return err
}

// Saved returns the options of a run whose initiator died, with Run set, for New. What can't be kept the caller adds:
// Observe, System, Logger, SSH.Prompter, SSH.NetDial, and EtcdTLS where the etcd needs it, without which Run fails.
// A host that had a password gets it asked for: see SSH.Interactive; so are those for Become, where there were some. Where there is no such run,
// errors.Is(err, fs.ErrNotExist).
func Saved(stateDir, run string) (Options, error) {
	peek, err := store.PeekRun(stateDir, run)
	if err != nil {
		return Options{}, err
	}
	s, err := parseSpec(peek)
	if err != nil {
		return Options{}, err
	}
	o := Options{
		Run: run, StateDir: stateDir, Payload: s.Payload, RetryFor: s.RetryFor, Stay: s.Stay, OnReboot: s.OnReboot,
		MaxConnections: s.MaxConnections, MaxHandshakes: s.MaxHandshakes, MaxUploads: s.MaxUploads, Rollout: s.Rollout, Converge: s.Converge, ConvergedTimeout: s.ConvergedTimeout, MaxRuntime: s.MaxRuntime, OrphanTimeout: s.OrphanTimeout, OutputCap: s.OutputCap,
		NoCache: s.NoCache, KeepState: s.KeepState, EtcdEndpoints: s.EtcdEndpoints, Deadlines: s.Deadlines, Patience: s.Patience,
		SSH: SSH{
			Config: s.SSH.Config, ConnectTimeout: s.SSH.ConnectTimeout, ChannelTimeout: s.SSH.ChannelTimeout, KeepaliveInterval: s.SSH.KeepaliveInterval,
			KeepaliveCount: s.SSH.KeepaliveCount, Jump: s.SSH.Jump, HostKeys: s.SSH.HostKeys, KnownHosts: s.SSH.KnownHosts, Identities: s.SSH.Identities,
			AgentSocket: s.SSH.AgentSocket, AskPassword: s.SSH.AskPassword, Interactive: s.SSH.Interactive,
		},
	}
	o.Become.AskPassword = s.BecomePassword
	for _, h := range s.Hosts {
		to := Host{
			Name: h.Name, Addr: h.Addr, Port: h.Port, User: h.User, BecomeUser: h.BecomeUser, BecomeMethod: h.Method, Jump: h.Jump,
			Identities: h.Identities, Shared: h.Shared, BecomeShared: h.Becoming, Prefix: h.Prefix, File: h.File, Vars: h.Vars, Follow: h.Follow,
		}
		if h.Way != nil {
			reached, err := s.way(*h.Way, len(s.Jumps))
			if err != nil {
				return Options{}, damaged(peek, err)
			}
			to.reached = &reached
		}
		if h.Definition >= 0 {
			if h.Definition >= len(s.Definitions) {
				return Options{}, damaged(peek, errors.New("a definition is missing"))
			}
			to.Definition = s.Definitions[h.Definition]
		}
		o.SSH.Interactive = o.SSH.Interactive || h.Password
		o.Hosts = append(o.Hosts, to)
	}
	return o, nil
}

func parseSpec(peek store.Peek) (spec, error) {
	var s spec
	if peek.Spec == nil {
		return s, fault.New(fault.Environment, "continue the run", "run %s was not begun yet: nothing is known of it", peek.ID).
			WithRemedy("begin a new one")
	}
	if err := json.Unmarshal(peek.Spec, &s); err != nil {
		return s, damaged(peek, err)
	}
	if s.Version != specVersion {
		return s, damaged(peek, fmt.Errorf("it has format %d, this program knows %d: use the version that began the run", s.Version, specVersion))
	}
	return s, nil
}

func damaged(peek store.Peek, err error) error {
	return fault.New(fault.Environment, "continue the run", "what was kept in %s can't be read: %w", peek.Dir, err)
}
