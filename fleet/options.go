package fleet

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/host"
	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Host is one remote machine. Zero values mean the defaults: port 22, the current user.
type Host struct {
	Name     string // unique in the run: letters, digits and .-_ , at most 63
	Addr     string // host name or IP address, without brackets
	Port     int    // 0 = not said
	User     string
	Password Secret // only where there is no other way; it is never shown or stored
	// Identities are private key files that are used before those of SSH's Config, and after those of SSH.
	Identities []string
	Shared     string // hosts with the same word here share a password, which is asked for once and with this word; "" = that of SSH
	Jump       string // jump hosts in front of this one, as SSH.Jump has them; "" = those of SSH, "none" = none
	Prefix     string // directory on the host to work in; "" = the first usable of /var/tmp, ~/.cache, /tmp

	BecomeUser   string // who everything on the host runs as; "" = who logs in
	BecomeMethod string // how to become that: BecomeSudo or BecomeDoas; "" = what the host has, sudo first
	// BecomePassword is what the host wants before that, and BecomeShared a word as Shared is one; they go before what Become says.
	BecomePassword Secret
	BecomeShared   string

	Definition []byte            // of the graph payload. Nobody may change the bytes any more; see Fleet.Update
	File       string            // what the definition is called in messages; one that ends in .yaml.tmpl makes it a template
	Vars       map[string]string // what a template finds in .Vars

	reached *inventory.Host // how it is connected, where that was found out; nobody changes it
	// Follow is the absolute path of the file of this machine that the caller follows for changes of Definition; "" = none. The fleet
	// does nothing with it but keep it for whoever continues the run.
	Follow string
}

// Payload is what every host of the fleet runs: a command, mgmt, or where neither is given a graph definition.
type Payload struct {
	// Command is a program and its arguments. They are templates over .Host .Run .Dir .Endpoint .OS .Arch .User .Home.
	Command []string
	Env     []string // KEY=VALUE, templates as well
	Binary  string   // a local file that is copied and run instead of Command[0]
	Mgmt    *Mgmt    // nil = the payload is not mgmt
	Noop    bool     // graph and mgmt: change nothing, say what would be changed
	NoWatch bool     // graph: do not follow changes of the definition, see Fleet.Update
	Restart Restart  // "" = RestartNever
	TCP     bool     // the etcd endpoint of the payload is 127.0.0.1:PORT instead of a Unix socket
}

// Converge says what converges.
type Converge string

// What converges: all hosts together, or each on its own.
const (
	ConvergeAuto  Converge = ""      // the group, or hosts where MaxConnections or waves let fewer run than there are
	ConvergeGroup Converge = "group" // MaxConnections must let all hosts run at the same time
	ConvergeHost  Converge = "host"
)

// Restart says whether a payload is started again after it ended. The host does that by itself, also while nobody is
// connected: after a second, then twice as long each time up to a minute, and from a second on again after it ran for a minute.
type Restart string

// The policies.
const (
	RestartNever     Restart = wire.RestartNever     // its end is its end
	RestartOnFailure Restart = wire.RestartOnFailure // unless it ended with exit status 0
	RestartAlways    Restart = wire.RestartAlways    // until it is told to end
)

// OnReboot says what is done where a host is rebooted while its payload runs, or before anybody heard how it ended. What is
// gone without a reboot may still run, and is never started again.
type OnReboot string

// The policies.
const (
	RebootFail  OnReboot = "fail"  // the default: the host failed
	RebootRerun OnReboot = "rerun" // the payload is started again from its beginning, in a new session; its output goes on
)

// HostKeys says what is done about host keys.
type HostKeys string

// The policies, as ssh_config's StrictHostKeyChecking has them.
const (
	HostKeysStrict    HostKeys = "strict"     // the default: a key that isn't known is refused
	HostKeysAsk       HostKeys = "ask"        // a person is asked about those of new hosts, once for all of them, where Prompter is a Confirmer
	HostKeysAcceptNew HostKeys = "accept-new" // one of a new host is remembered, a changed one refused
	HostKeysInsecure  HostKeys = "insecure"   // anything goes
)

// SSH says how to connect. For zero values what OpenSSH's configuration says about a host counts, then the defaults.
type SSH struct {
	// Config is a file in the format of ssh_config(5), as ssh's -F; "" = ~/.ssh/config and /etc/ssh/ssh_config, "none" = none.
	Config string

	ConnectTimeout    time.Duration // one attempt: dial, key exchange and authentication
	ChannelTimeout    time.Duration
	KeepaliveInterval time.Duration
	KeepaliveCount    int

	// Jump are the jump hosts that are passed to hosts, in order, as in OpenSSH's ProxyJump: [user@]host[:port],… Each is connected once for all
	// hosts behind it, with its own host key and the same keys and passwords.
	Jump string

	HostKeys   HostKeys
	KnownHosts []string // files; nil = ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts

	Identities  []string // private key files; nil = the usual ones in ~/.ssh
	AgentSocket string   // "" = no agent
	AskPassword bool     // ask once for a password for all hosts
	// Password has the password of a host that has none, when the host wants one. It is called by several goroutines, each time that one
	// is wanted. It can't be kept with the run: whoever continues that brings it again, or is asked. nil = there is none.
	Password    func(ctx context.Context, to Login) (Secret, error)
	Interactive bool     // ask for a host's password when nothing else worked
	Prompter    Prompter // whom to ask; nil = nobody

	NetDial func(ctx context.Context, network, addr string) (net.Conn, error) // nil = the network
}

// Login is who logs in where.
type Login struct{ Host, Addr, User string }

// Secret is a string that every way of printing shows as "[secret]".
type Secret = inventory.Secret

// Confirmer is what a Prompter may be as well: it asks a person a question with yes or no for an answer.
type Confirmer = sshconn.Confirmer

// Prompter asks a person for a secret. It is called by one goroutine at a time and returns when its context ends.
type Prompter = sshconn.Prompter

// Options say what a fleet does. The zero value of each field is usable, but there must be hosts sooner or later.
type Options struct {
	Hosts   []Host
	Payload Payload
	SSH     SSH
	Become  Become

	RetryFor         time.Duration // all attempts of a host since it last was well; 0 = DefaultRetryFor, RetryOnce = one attempt, < 0 = for ever
	Stay             bool          // never give up: hosts that can't be reached are tried for ever, those that were well before also when they refuse us; RetryFor does not count
	OnReboot         OnReboot      // "" = RebootFail
	Rollout          Rollout       // in waves
	MaxConnections   int           // hosts at work at the same time; 0 = all
	Converge         Converge      // what ends when it has converged
	ConvergedTimeout time.Duration // it has, when it was quiet for so long; 0 = run until the payloads end
	MaxHandshakes    int           // logins in flight at the same time; 0 = DefaultHandshakes, of which DefaultJumping through one jump host
	MaxUploads       int           // hosts that are copied to at the same time; 0 = DefaultUploads
	MaxRuntime       time.Duration // 0 = unbounded
	OrphanTimeout    time.Duration // how long a session lives without us; 0 = 30 minutes, 7 days with Stay; < 0 = for ever
	OutputCap        int64         // bytes of output kept on a host that nobody reads; 0 = 64 MiB
	NoCache          bool          // leave nothing at all on the hosts
	// DryRun has Run look at the hosts and tell what it would do there, as HostPlanned, without changing anything on them or in the
	// state of runs. A host of which that is known has succeeded. There is no etcd; waves are told, and not waited for.
	DryRun    bool
	KeepState bool // keep the run's state and output on this machine after a finished run

	EtcdEndpoints []string    // an etcd of your own; nil = one in this process
	EtcdTLS       *tls.Config // for EtcdEndpoints

	// Run is a run to continue, whose initiator died: same sessions, same etcd, nothing started twice. Saved returns the
	// other options of it. "" = a new run.
	Run       string
	TakeOver  bool                // the Run may have a living initiator, here or on the machine that its state was copied from: that one is to leave
	StateDir  string              // the directory of all runs' states; "" = $XDG_STATE_HOME/mgmt-remote/runs
	Deadlines host.Deadlines      // of the payloads' end and of the steps; zero = the defaults
	Patience  supervisor.Patience // with hosts that are to stop; zero = the defaults

	// Observe gets every event, output too, one at a time from one goroutine. Output is paced by it: a host whose output
	// is not taken is told to hold it back.
	Observe func(messages.Event)
	// System is the actor system to spawn into; nil = one of the fleet's own.
	System *actor.ActorSystem
	Logger *slog.Logger
}

// DefaultRetryFor is how long a host that can't be reached is tried.
const DefaultRetryFor = time.Minute

// The bounds of what is in flight at the same time where none are set.
const (
	DefaultHandshakes = supervisor.DefaultHandshakes
	DefaultJumping    = supervisor.DefaultJumping
	DefaultUploads    = supervisor.DefaultUploads
)

// StayOrphanTimeout is Options.OrphanTimeout where none is given and Options.Stay is.
const StayOrphanTimeout = 7 * 24 * time.Hour

// RetryOnce as Options.RetryFor makes one attempt.
const RetryOnce = restart.Once
