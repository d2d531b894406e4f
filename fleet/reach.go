package fleet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconfig"
)

// maxHops is how many jump hosts the configuration may put in front of one another by naming one for the other.
const maxHops = 8

// reach finds out how a host is connected. What Host and SSH say goes first, then what OpenSSH's configuration says, then defaults.
func (f *Fleet) reach(h Host) (inventory.Host, error) {
	to := inventory.Host{Name: h.Name, Password: h.Password, Prefix: h.Prefix}
	config, err := f.config()
	if err != nil {
		return to, err // it is about no host
	}
	s, err := f.look(query(h))
	if err != nil {
		return to, fault.Wrap(fault.Environment, "connect", err).WithHost(h.Name)
	}
	identities := slices.Clone(h.Identities)
	for i := range identities {
		if identities[i], err = config.Path(identities[i]); err == nil {
			err = f.auth.CheckIdentity(identities[i])
		}
		if err != nil {
			return to, fault.Wrap(fault.Denied, "connect", err).WithHost(h.Name)
		}
	}
	f.settle(&to, s, identities)
	hops, err := f.hops(s.Jump, 0)
	if err != nil {
		return to, fault.Wrap(fault.Environment, "connect", err).WithHost(h.Name)
	}
	return to.Through(hops), nil
}

// lookAhead has the names of all hosts looked for at the same time, where the configuration asks name servers. What is wrong is told
// when hosts are reached.
func (f *Fleet) lookAhead() {
	var queries []sshconfig.Query
	for _, h := range f.opts.Hosts {
		if h.reached == nil {
			h.Jump = cmp.Or(h.Jump, f.opts.SSH.Jump)
			queries = append(queries, query(h))
		}
	}
	if len(queries) == 0 {
		return // a continued run does not need the configuration
	}
	if config, err := f.config(); err == nil {
		config.Prepare(f.stopping, queries)
	}
}

// query is how the configuration is asked about a host.
func query(h Host) sshconfig.Query {
	return sshconfig.Query{Host: h.Addr, User: h.User, Port: h.Port, Jump: h.Jump}
}

func (f *Fleet) look(q sshconfig.Query) (sshconfig.Settings, error) {
	config, err := f.config()
	if err != nil {
		return sshconfig.Settings{}, err
	}
	r, err := config.Lookup(f.stopping, q)
	if err != nil {
		return sshconfig.Settings{}, err
	}
	return r.Settings()
}

// settle puts settings into a host. What is said for all hosts by SSH is left out: the dialer has it.
func (f *Fleet) settle(to *inventory.Host, s sshconfig.Settings, identities []string) {
	to.Addr, to.Port, to.User = s.Addr, cmp.Or(s.Port, inventory.DefaultPort), s.User
	ssh, all := s.SSH, f.opts.SSH
	if all.ConnectTimeout != 0 {
		ssh.ConnectTimeout = 0
	}
	if all.KeepaliveInterval != 0 {
		ssh.KeepaliveInterval = 0
	}
	if all.KeepaliveCount != 0 {
		ssh.KeepaliveCount = 0
	}
	if all.HostKeys != "" {
		ssh.HostKeys = ""
	}
	if all.KnownHosts != nil {
		ssh.KnownHosts, ssh.GlobalKnownHosts = nil, nil
	}
	if ssh.HostKeys == string(HostKeysInsecure) {
		f.opts.Logger.Warn("StrictHostKeyChecking no: anyone on the way can be the host", "host", to.Name)
	}
	ssh.Identities = slices.Concat(identities, ssh.Identities)
	to.SSH = f.shared(ssh)
}

// shared makes hosts with the same settings share them; nil where nothing is said.
func (f *Fleet) shared(ssh inventory.SSH) *inventory.SSH {
	text, _ := json.Marshal(ssh) // plain data
	if string(text) == "{}" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.ways[string(text)]
	if known == nil {
		known = &ssh
		f.ways[string(text)] = known
	}
	return known
}

// hops finds out how jump hosts are connected. The first may have others in front of it by the configuration; for the next
// ones the way is said.
func (f *Fleet) hops(jump string, depth int) ([]inventory.Host, error) {
	f.mu.Lock()
	hops, known := f.jumps[jump]
	f.mu.Unlock()
	if known {
		return hops, nil
	}
	named, err := inventory.ParseHops(jump)
	if err != nil {
		return nil, err
	}
	for i, hop := range named {
		q := sshconfig.Query{Host: hop.Addr, User: hop.User}
		if hop.SaidPort {
			q.Port = hop.Port
		}
		if i > 0 {
			q.Jump, q.Proxied = inventory.NoJump, true
		}
		s, err := f.look(q)
		if err != nil {
			return nil, fmt.Errorf("jump host %s: %w", hop.Name, err)
		}
		if i == 0 && s.Jump != "" && s.Jump != inventory.NoJump {
			if depth == maxHops {
				return nil, fmt.Errorf("jump host %s: OpenSSH's configuration goes round in a circle to reach it: give it ProxyJump none", hop.Name)
			}
			before, err := f.hops(s.Jump, depth+1)
			if err != nil {
				return nil, err
			}
			hops = append(hops, before...)
		}
		to := inventory.Host{Name: hop.Name}
		f.settle(&to, s, nil)
		hops = append(hops, to)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jumps[jump] = hops
	return hops, nil
}

// specWay is a host as it is reached, as it is kept. What several share is kept once: the numbers are places in the lists of
// the spec, from 1 on; 0 = none.
type specWay struct {
	Name string `json:"name,omitempty"` // of jump hosts
	Addr string `json:"addr"`
	Port int    `json:"port"`
	User string `json:"user,omitempty"`
	SSH  int    `json:"ssh,omitempty"`
	Jump int    `json:"jump,omitempty"`
}

// wayKeeper makes ways of hosts.
type wayKeeper struct {
	spec  *spec
	ssh   map[*inventory.SSH]int
	jumps map[string]int // by route
}

func newWayKeeper(s *spec) *wayKeeper {
	return &wayKeeper{spec: s, ssh: map[*inventory.SSH]int{}, jumps: map[string]int{}}
}

func (k *wayKeeper) keep(h inventory.Host) specWay {
	w := specWay{Addr: h.Addr, Port: h.Port, User: h.User}
	if h.SSH != nil {
		if w.SSH = k.ssh[h.SSH]; w.SSH == 0 {
			k.spec.Settings = append(k.spec.Settings, *h.SSH)
			w.SSH = len(k.spec.Settings)
			k.ssh[h.SSH] = w.SSH
		}
	}
	if h.Jump != nil {
		route := h.Route()
		if w.Jump = k.jumps[route]; w.Jump == 0 {
			jump := k.keep(*h.Jump)
			jump.Name = h.Jump.Name
			k.spec.Jumps = append(k.spec.Jumps, jump)
			w.Jump = len(k.spec.Jumps)
			k.jumps[route] = w.Jump
		}
	}
	return w
}

// way makes a host of a way. Those in front of it stand before it in the list, so that damage can't make a circle.
func (s *spec) way(w specWay, jumps int) (inventory.Host, error) {
	h := inventory.Host{Name: w.Name, Addr: w.Addr, Port: w.Port, User: w.User}
	if w.SSH < 0 || w.SSH > len(s.Settings) || w.Jump < 0 || w.Jump > jumps {
		return h, fmt.Errorf("the way to %s is missing", w.Addr)
	}
	if w.SSH > 0 {
		h.SSH = &s.Settings[w.SSH-1]
	}
	if w.Jump > 0 {
		jump, err := s.way(s.Jumps[w.Jump-1], w.Jump-1)
		if err != nil {
			return h, err
		}
		h.Jump = &jump
	}
	return h, nil
}
