package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/test/nameserver"
)

// configured makes options with a file of OpenSSH's configuration and a fleet that is not run.
func configured(t *testing.T, config string, change func(*Options)) (*Fleet, error) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "ssh_config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Payload: Payload{Command: []string{"x"}}, StateDir: t.TempDir(), SSH: SSH{Config: file, Identities: []string{identity(t)}}}
	if change != nil {
		change(&o)
	}
	f, err := New(o)
	if err == nil {
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return f, err
}

// way is how a host is connected in words: what is in front of it, user, address and settings.
func way(h inventory.Host) string {
	text := fmt.Sprintf("%s@%s", h.User, h.Address())
	if h.SSH != nil {
		text += fmt.Sprintf("%+v", *h.SSH)
	}
	if h.Jump != nil {
		text = way(*h.Jump) + " > " + text
	}
	return strings.NewReplacer("false", "", "[]", "").Replace(text)
}

// What is said here goes before what OpenSSH's configuration says, for hosts and for what is in front of them.
func TestReach(t *testing.T) {
	const config = `
Host web*
  HostName %h.example
  Port 2201
  User deploy
  ProxyJump second,third
Host second
  HostName 192.0.2.2
  User gate
  ProxyJump first:2222
Host third
  ProxyJump never
  Port 2203
Host db
  ProxyCommand nc %h %p
  ConnectTimeout 3
  ServerAliveInterval 4
  StrictHostKeyChecking accept-new
  UserKnownHostsFile /known
  RevokedHostKeys /revoked
Host loop
  ProxyJump loop
Host short
  CanonicalizeHostname yes
  CanonicalDomains nowhere.test full.test
Match canonical host short.full.test
  Port 2277
  ProxyJump second
`
	nameserver.Start(t, nil, "short.full.test").Default(t)
	second := "@first:2222 > gate@192.0.2.2:22 > @third:2203"
	for _, c := range []struct {
		name   string
		host   Host
		change func(*SSH)
		want   string
	}{
		{"the file", Host{Addr: "web1"}, nil, second + " > deploy@web1.example:2201"},
		{"user and port", Host{Addr: "web1", User: "me", Port: 22}, nil, second + " > me@web1.example:22"},
		{"no jump host", Host{Addr: "web1", Jump: "none"}, nil, "deploy@web1.example:2201"},
		{"another jump host", Host{Addr: "web1", Jump: "x@third"}, nil, "@never:22 > x@third:2203 > deploy@web1.example:2201"}, // third has one of its own
		{"jump hosts for all", Host{Addr: "elsewhere"}, func(s *SSH) { s.Jump = "second" }, "@first:2222 > gate@192.0.2.2:22 > @elsewhere:22"},
		{"a port of a jump host", Host{Addr: "elsewhere"}, func(s *SSH) { s.Jump = "other,third:22" }, "@other:22 > @third:22 > @elsewhere:22"},
		{"a full name", Host{Addr: "short"}, nil, "@first:2222 > gate@192.0.2.2:22 > @short.full.test:2277"},
		{"not of one behind others", Host{Addr: "elsewhere"}, func(s *SSH) { s.Jump = "other,short" }, "@other:22 > @short:22 > @elsewhere:22"},
		{"no file", Host{Addr: "web1"}, func(s *SSH) { s.Config = "none" }, "@web1:22"},
		{"a proxy command", Host{Addr: "db"}, nil, "ProxyCommand:nc db 22 ConnectTimeout:3s KeepaliveInterval:4s"},
		{"settings", Host{Addr: "db"}, nil, "HostKeys:accept-new HostKeyAlias: KnownHosts:[/known]"},
		{"settings for all", Host{Addr: "db"}, func(s *SSH) {
			s.ConnectTimeout, s.KeepaliveInterval, s.HostKeys, s.KnownHosts = time.Minute, time.Minute, HostKeysStrict, []string{"/other"}
		}, "HostKeys: HostKeyAlias: KnownHosts: GlobalKnownHosts: KnownHostsCommand: RevokedHostKeys:[/revoked] HashKnownHosts: ProxyCommand:nc db 22 ConnectTimeout:0s KeepaliveInterval:0s"},
	} {
		c.host.Name = "h"
		f, err := configured(t, config, func(o *Options) {
			o.Hosts = []Host{c.host}
			if c.change != nil {
				c.change(&o.SSH)
			}
		})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := way(inventoryHost(f.hosts["h"])); !strings.Contains(got, c.want) || strings.Contains(c.want, "@") && got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	_, err := configured(t, config, func(o *Options) { o.Hosts = []Host{{Name: "h", Addr: "loop"}} })
	var f *fault.Fault
	if !errors.As(err, &f) || f.Host != "h" || !strings.Contains(err.Error(), "goes round in a circle to reach it") {
		t.Error(err)
	}
	_, err = configured(t, config, func(o *Options) { o.Hosts = []Host{{Name: "h", Addr: "x", Identities: []string{"nowhere"}}} })
	if !errors.As(err, &f) || f.Kind != fault.Denied || f.Host != "h" || !strings.Contains(err.Error(), "/nowhere: no such file") {
		t.Error(err)
	}
	if _, err := configured(t, "Nonsense yes", func(o *Options) { o.Hosts = []Host{{Name: "h", Addr: "x"}} }); !errors.As(err, &f) || f.Kind != fault.Environment || !strings.Contains(err.Error(), "ssh_config:1: unknown keyword") {
		t.Error(err)
	}
}

// Who continues a run reaches hosts as it did, whatever became of the configuration. What hosts share is kept once.
func TestTheWayIsKept(t *testing.T) {
	f, err := configured(t, "Host h*\nProxyJump a,b\nHost h2*\n  ConnectTimeout 9\nHost b\n  IdentityFile ~/%n\n", func(o *Options) {
		for i := range 30 {
			o.Hosts = append(o.Hosts, Host{Name: fmt.Sprint("h", i), Addr: fmt.Sprint("h", i), Identities: o.SSH.Identities})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.spec()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Settings) != 3 || len(s.Jumps) != 2 {
		t.Errorf("%d settings and %d jump hosts are kept", len(s.Settings), len(s.Jumps))
	}
	for _, h := range s.Hosts {
		again, err := s.way(*h.Way, len(s.Jumps))
		again.Name = h.Name
		if before := inventoryHost(f.hosts[h.Name]); err != nil || way(again) != way(before) || !strings.Contains(way(again), "@b:22{Identities:[") {
			t.Errorf("%s became %s: %v", way(before), way(again), err)
		}
	}
	for _, bad := range []specWay{{Jump: 3}, {Jump: -1}, {SSH: 9}, {SSH: -1}} {
		if _, err := s.way(bad, len(s.Jumps)); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	s.Jumps[0].Jump = 1 // in front of itself
	if _, err := s.way(specWay{Jump: 1}, len(s.Jumps)); err == nil {
		t.Error("a circle is taken")
	}
}

// The ways to 10,000 hosts are found out, and kept, in a part of a second.
func BenchmarkTenThousandWays(b *testing.B) {
	file := filepath.Join(b.TempDir(), "ssh_config")
	text := "Host gate*\n  User gate\n"
	for i := range 100 {
		text += fmt.Sprintf("Host host%d*\n  User u%d\n  ProxyJump gate%d\n  IdentityFile ~/.ssh/k%d\n", i, i, i%7, i)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, err := New(Options{Payload: Payload{Command: []string{"x"}}, StateDir: b.TempDir(), SSH: SSH{Config: file, Password: func(context.Context, Login) (Secret, error) { return "", nil }}})
		if err != nil {
			b.Fatal(err)
		}
		for i := range 10_000 {
			if err := f.Add(Host{Name: fmt.Sprint("host", i), Addr: fmt.Sprint("host", i)}); err != nil {
				b.Fatal(err)
			}
		}
		if s, err := f.spec(); err != nil || len(s.Hosts) != 10_000 {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
