//go:build !engine

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconfig"
)

// sshFlags are about OpenSSH's configuration.
type sshFlags struct {
	config string
	given  func(flag string) bool // whether somebody gave it: a default goes behind what the configuration says
}

func (f *sshFlags) register(p *pflag.FlagSet) {
	f.given = p.Changed
	p.StringVarP(&f.config, "ssh-config", "F", "", "read `FILE` instead of ~/.ssh/config and /etc/ssh/ssh_config; none = neither (docs/ssh-config.md)")
}

// said puts into ssh what flags say that have defaults, where they were given.
func (f *sshFlags) said(run *runFlags, ssh *fleet.SSH) {
	if f.given("host-key") {
		ssh.HostKeys = fleet.HostKeys(run.hostKeys)
	}
	if f.given("connect-timeout") {
		ssh.ConnectTimeout = time.Duration(run.connectTimeout)
	}
	if f.given("keepalive-interval") {
		ssh.KeepaliveInterval = time.Duration(run.keepaliveInterval)
	}
	if f.given("keepalive-count") {
		ssh.KeepaliveCount = run.keepaliveCount
	}
}

// saidPort is the port that somebody named for a host, 0 where nobody did.
func saidPort(e *inventory.Entry) int {
	if _, said := e.Fields[inventory.Port]; !said && e.Host.Port == inventory.DefaultPort {
		return 0
	}
	return e.Host.Port
}

// sshValue is what OpenSSH's configuration says about a host with one keyword.
type sshValue struct {
	name    string
	keyword sshconfig.Keyword
	sshconfig.Value
}

// explain finds what OpenSSH's configuration says about a host, besides what goes before it.
func (f *sshFlags) explain(cmd *cobra.Command, e *inventory.Entry) ([]sshValue, error) {
	config, err := sshconfig.Load(sshconfig.Options{File: f.config})
	if err != nil {
		return nil, err
	}
	q := sshconfig.Query{Host: e.Host.Addr, User: e.Host.User, Port: saidPort(e), Jump: e.Fields[inventory.Jump].Text}
	result, err := config.Lookup(cmd.Context(), q)
	if err == nil {
		_, err = result.Settings() // what run would refuse is told here
	}
	if err != nil {
		return nil, err
	}
	var values []sshValue
	for _, k := range sshconfig.Keywords() {
		if k == sshconfig.User && q.User != "" || k == sshconfig.Port && q.Port != 0 {
			continue
		}
		for _, v := range result.Values(k) {
			values = append(values, sshValue{k.String(), k, v})
		}
		if k == sshconfig.CanonicalizeHostname && result.Canonical != "" {
			at := result.Values(k)[0].Origin
			values = append(values, sshValue{"canonical name", sshconfig.HostName, sshconfig.Value{Text: []string{result.Canonical}, Origin: at}})
		}
	}
	return values, nil
}

// sshTable writes them below the other facts.
func sshTable(w *tabwriter.Writer, values []sshValue) {
	for _, v := range values {
		_, _ = fmt.Fprintf(w, "ssh %s\t%s\t%s\n", v.name, cell(strings.Join(v.Text, " ")), cell(v.Origin.String())) // Flush has the error
	}
}
