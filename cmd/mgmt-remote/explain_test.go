package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/test/nameserver"
)

// What CanonicalizeHostname makes of a name is told, with what asked for it.
func TestExplainCanonicalName(t *testing.T) {
	nameserver.Start(t, nil, "web.full.test").Default(t)
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("CanonicalizeHostname yes\nCanonicalDomains full.test\nMatch canonical host web.full.test\n  Port 77\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	f := sshFlags{config: file}
	for name, want := range map[string]string{"web": "canonical name=web.full.test " + file + ":1", "other": ""} {
		entry := &inventory.Entry{Host: inventory.Host{Name: name, Addr: name, Port: inventory.DefaultPort}}
		values, err := f.explain(cmd, entry)
		if err != nil {
			t.Fatal(err)
		}
		got, port := "", ""
		for _, v := range values {
			switch v.name {
			case "canonical name":
				got = v.name + "=" + strings.Join(v.Text, " ") + " " + v.Origin.String()
			case "Port":
				port = v.Text[0]
			}
		}
		if got != want || (port == "77") != (want != "") {
			t.Errorf("%s: %q, port %q, want %q", name, got, port, want)
		}
		var out bytes.Buffer
		if err := explainHost(&out, entry, values); err != nil || strings.Contains(out.String(), "ssh canonical name") != (want != "") {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
}
