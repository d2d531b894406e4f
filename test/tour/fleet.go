package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
	"github.com/mgmt-remote/mgmt-remote/test/simhost/loopback"
)

// The fleet: web1 to web30 and db1 to db10. Some are not like the others.
const (
	webs = 30
	dbs  = 10

	oldKernel = "6.1.0-41"
	newKernel = "6.12.63"
)

// newFleet makes the hosts, and in home an inventory of them and what ssh needs to get in.
func newFleet(home string) (*loopback.Fleet, error) {
	ssh := filepath.Join(home, ".ssh")
	if err := os.Mkdir(ssh, 0o700); err != nil {
		return nil, err
	}
	fleet, err := loopback.New(ssh)
	if err != nil {
		return nil, err
	}
	err = os.Rename(fleet.Identity(), filepath.Join(ssh, "id_ed25519"))
	for i := range webs + dbs {
		if err == nil {
			_, err = fleet.Add(member(i))
		}
	}
	if err == nil {
		err = fleet.WriteKnownHosts(filepath.Join(ssh, "known_hosts"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "fleet.yaml"), []byte(inventory(fleet.Addresses()[0].Port)), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("simulated hosts: %w", err), fleet.Close())
	}
	return fleet, nil
}

func inventory(port int) string {
	return fmt.Sprintf(`hosts:
  web[1-20]: {address: '127.1.0.[1-20]', labels: [dc1]}
  web[21-30]: {address: '127.1.0.[21-30]', labels: [dc2]}
  db[1-10]: {address: '127.1.0.[31-40]', labels: [dc1]}
groups:
  all: {user: deploy, port: %d}
  web: {hosts: 'web[1-30]'}
  db: {hosts: 'db[1-10]'}
`, port)
}

// member is host i of the fleet.
func member(i int) simhost.Options {
	o := simhost.Options{Name: fmt.Sprintf("web%d", i+1), User: "deploy", Facts: probe.Facts{Kernel: newKernel, User: "deploy"}}
	if i >= webs {
		o.Name = fmt.Sprintf("db%d", i+1-webs)
	}
	switch o.Name {
	case "web7", "web19", "db3":
		o.Facts.Kernel = oldKernel
	case "db8":
		o.Facts.Base = "-"
		o.Facts.Rejected = []probe.Rejected{{Dir: "/var/tmp", Reason: "is mounted noexec"}, {Dir: "/tmp", Reason: "is mounted noexec"}}
	}
	o.Payload.Body = func(ctx context.Context, p *simhost.Process) int {
		return body(ctx, p, o.Facts.Kernel, i)
	}
	return o
}

// body is what the commands of the script do on a simulated host.
func body(ctx context.Context, p *simhost.Process, kernel string, i int) int {
	argv := p.Spec().Argv
	switch command := strings.Join(argv, " "); command {
	case "uname -r":
		p.Print(false, kernel+"\n")
		return 0
	case "upgrade":
		return upgrade(ctx, p, kernel, i)
	default:
		p.Print(true, "sh: "+command+": not found\n")
		return 127
	}
}

// upgrade takes a different time on each host, and fails where the kernel is old.
func upgrade(ctx context.Context, p *simhost.Process, kernel string, i int) int {
	const stages = 4
	stage := 700*time.Millisecond + time.Duration(i*3%11)*200*time.Millisecond
	tick := time.NewTicker(stage)
	defer tick.Stop()
	for n := range stages {
		select {
		case <-ctx.Done():
			return 130
		case <-tick.C:
		}
		if n == 2 && kernel == oldKernel {
			p.Print(true, "upgrade: kernel "+kernel+" is too old\n")
			return 1
		}
		p.Print(false, fmt.Sprintf("package %d of %d upgraded\n", n+1, stages))
	}
	return 0
}
