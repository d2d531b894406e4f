package sshconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/test/nameserver"
)

// A name becomes what the real ssh makes of it, and what the files say about that counts.
func TestSSHFindsTheSameNames(t *testing.T) {
	t.Setenv("SHELL", "/bin/sh")
	server := nameserver.Start(t, map[string]string{"db.two.test": "real.other.test", "loop.two.test": "db.two.test", "www.search.test": "cdn.other.test"},
		"web.two.test", "web.three.test", "only.three.test", "a.b.two.test", "a.b.c.two.test", "real.other.test", "six.two.test", "gate.two.test", "cdn.other.test", "full.test")
	through := server.Through(t)
	hosts := []Query{
		{Host: "web"}, {Host: "WEB"}, {Host: "only"}, {Host: "nowhere"}, {Host: "a.b"}, {Host: "a.b.c"}, {Host: "db"}, {Host: "loop"}, {Host: "six"},
		{Host: "full.test."}, {Host: "nowhere.test."}, {Host: "web.two.test"}, {Host: "10.0.0.1"}, {Host: "web", Jump: "gate"}, {Host: "web", User: "me", Port: 7},
		{Host: "alias"}, {Host: "proxied"}, {Host: "jumped"}, {Host: "www"},
	}
	const rest = `
CanonicalDomains one.test two.test three.test
Host alias
  HostName web
Host proxied
  ProxyCommand nc %h %p
Host jumped
  ProxyJump gate
Match canonical host web.two.test
  User canonical
  IdentityFile ~/.ssh/%n-%h
Match host *.two.test
  Port 99
Match final host web.*
  ProxyJump late
Host real.other.test
  HostKeyAlias followed
`
	for i, head := range []string{
		"CanonicalizeHostname yes",
		"CanonicalizeHostname always",
		"CanonicalizeHostname no",
		"CanonicalizeHostname yes\nCanonicalizeMaxDots 2",
		"CanonicalizeHostname yes\nCanonicalizeMaxDots 0",
		"CanonicalizeHostname yes\nCanonicalDomains three.test two.test",
		"CanonicalizeHostname yes\nCanonicalDomains none",
		"CanonicalizeHostname yes\nCanonicalizeFallbackLocal no",
		"CanonicalizeHostname always\nCanonicalizeFallbackLocal no\nCanonicalizePermittedCNAMEs *",
		"CanonicalizeHostname yes\nAddressFamily inet",
		"CanonicalizeHostname always\nCanonicalizePermittedCNAMEs *.two.test:*.other.test",
		"CanonicalizeHostname always\nCanonicalizePermittedCNAMEs none",
		"CanonicalizeHostname always\nCanonicalizePermittedCNAMEs x.test:y.test *.TWO.test,!loop.*:real.*",
	} {
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte(head+rest), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := testConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		config.local.Resolver = server.Resolver()
		config.Prepare(t.Context(), hosts)
		changed := 0
		for _, q := range hosts {
			theirs, theirErr := sshG(t, file, q, through...)
			r, err := config.Lookup(t.Context(), q)
			if (err != nil) != (theirErr != nil) {
				// ssh connects to nothing that it can't find.
				if theirErr == nil || !strings.Contains(theirErr.Error(), "Could not resolve hostname") {
					t.Errorf("%s, %+v: ssh says %v, we say %v", head, q, theirErr, err)
				}
				continue
			}
			if err != nil {
				if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "CanonicalizeFallbackLocal no") || !strings.Contains(err.Error(), file+":2") {
					t.Error(err)
				}
				continue
			}
			for _, problem := range same(theirs, asSSH(t, r)) {
				t.Errorf("%s, %+v: %s", head, q, problem)
			}
			if r.Canonical != "" {
				changed++
				if r.Canonical != theirs["hostname"][0] {
					t.Errorf("%s, %+v: %s", head, q, r.Canonical)
				}
			}
		}
		if (changed == 0) != (i == 2) {
			t.Errorf("%s: %d names were changed", head, changed)
		}
	}
}

// Each name is asked for once for all hosts, many at once, and not at all where nobody wants it.
func TestNamesAreAskedForOnce(t *testing.T) {
	var names []string
	var hosts []Query
	for i := range 200 {
		names = append(names, fmt.Sprintf("h%d.x.test", i))
		hosts = append(hosts, Query{Host: fmt.Sprint("h", i)}, Query{Host: fmt.Sprint("h", i), User: "other"}, Query{Host: fmt.Sprint("h", i), Proxied: true})
	}
	for head, want := range map[string]int{"CanonicalizeHostname no": 0, "# nothing": 0, "CanonicalizeHostname yes": 2} { // A and AAAA
		c, err := load(t, head+"\nCanonicalDomains x.test\n")
		if err != nil {
			t.Fatal(err)
		}
		server := nameserver.Start(t, nil, names...)
		c.local.Resolver = server.Resolver()
		c.Prepare(t.Context(), hosts)
		for _, q := range hosts {
			r, err := c.Lookup(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if full := r.Canonical == q.Host+".x.test"; full != (want > 0 && !q.Proxied) {
				t.Fatalf("%s: %+v is %q", head, q, r.Canonical)
			}
		}
		for _, n := range names {
			if got := server.Asked(n); got != want {
				t.Fatalf("%s: %s was asked for %d times", head, n, got)
			}
		}
	}
}
