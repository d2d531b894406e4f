package sshconn

import (
	"context"
	"net"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconfig"
)

// optionsFor are the options of connections to one host: what is said about the host goes before what is said for all.
func (d *Dialer) optionsFor(host inventory.Host) *Options {
	s := host.SSH
	if s == nil {
		return &d.opts
	}
	opts := d.opts
	if s.ConnectTimeout > 0 { // without a limit we would wait for ever
		opts.ConnectTimeout = s.ConnectTimeout
	}
	if s.KeepaliveInterval != 0 {
		opts.KeepaliveInterval = s.KeepaliveInterval
	}
	if s.KeepaliveCount > 0 {
		opts.KeepaliveCount = s.KeepaliveCount
	}
	return &opts
}

// netDial makes the transport of a host that is reached directly.
func (d *Dialer) netDial(ctx context.Context, host inventory.Host) (net.Conn, error) {
	network, dial := "tcp", d.opts.NetDial
	if s := host.SSH; s != nil {
		switch s.AddressFamily {
		case "inet":
			network = "tcp4"
		case "inet6":
			network = "tcp6"
		}
		if s.BindAddress != "" && dial == nil {
			from, err := new(net.Resolver).LookupIPAddr(ctx, s.BindAddress)
			if err != nil {
				return nil, err
			}
			dial = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from[0].IP, Zone: from[0].Zone}}).DialContext
		}
	}
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return dial(ctx, network, host.Address())
}

// proxied is the host's proxy command; "" = none.
func proxied(host inventory.Host) string {
	if host.SSH == nil {
		return ""
	}
	return host.SSH.ProxyCommand
}

// algorithms are what is offered to a host. Where a list that was said leaves nothing that we have, the error is a fault.
type algorithms struct {
	ciphers, kex, macs, hostKeys []string
}

func (d *Dialer) algorithms(host inventory.Host, keys, more *HostKeys) (a algorithms, err error) {
	a = algorithms{ciphers: ciphers, hostKeys: keys.algorithms(host, more)}
	s := host.SSH
	if s == nil {
		return a, nil
	}
	good, bad := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	for _, list := range []struct {
		name, spec     string
		defaults, also []string
		to             *[]string
	}{
		{"Ciphers", s.Ciphers, ciphers, slices.Concat(good.Ciphers, bad.Ciphers), &a.ciphers},
		{"KexAlgorithms", s.KeyExchanges, good.KeyExchanges, slices.Concat(good.KeyExchanges, bad.KeyExchanges), &a.kex},
		{"MACs", s.MACs, good.MACs, slices.Concat(good.MACs, bad.MACs), &a.macs},
		{"HostKeyAlgorithms", s.HostKeyAlgorithms, a.hostKeys, slices.Concat(good.HostKeys, bad.HostKeys), &a.hostKeys},
	} {
		if list.spec == "" {
			continue
		}
		if *list.to = sshconfig.Algorithms(list.spec, list.defaults, list.also); len(*list.to) == 0 {
			return a, fault.New(fault.Environment, "connect", "%s %s: none of them is known here", list.name, list.spec).WithHost(host.Name).
				WithRemedy("add one of %v", list.also)
		}
	}
	return a, nil
}

// pubkeyAllowed reports whether a key may be used for a host by the host's list of algorithms.
func pubkeyAllowed(host inventory.Host, key ssh.PublicKey) bool {
	if host.SSH == nil || host.SSH.PubkeyAlgorithms == "" {
		return true
	}
	all := slices.Concat(ssh.SupportedAlgorithms().PublicKeyAuths, ssh.InsecureAlgorithms().PublicKeyAuths)
	for _, a := range all {
		if c := "-cert-v01@openssh.com"; !slices.Contains(all, a+c) {
			all = append(all, a+c)
		}
	}
	allowed := sshconfig.Algorithms(host.SSH.PubkeyAlgorithms, all, all)
	names := []string{key.Type()}
	if key.Type() == ssh.KeyAlgoRSA {
		names = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(allowed, n) })
}
