package sshconfig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever stands in a file, reading ends, an error names the file, and each origin is a line of it.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/ssh/*.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), "web1")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no command of Match exec is run
	file := filepath.Join(f.TempDir(), "config")
	f.Fuzz(func(t *testing.T, text, host string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return // of whatever this machine has
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Options{File: file})
		if err != nil {
			if !strings.Contains(err.Error(), file) {
				t.Fatal(err)
			}
			return
		}
		r, err := c.Lookup(ctx, Query{Host: host})
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		for _, k := range Keywords() {
			for _, v := range r.Values(k) {
				if v.Origin.Line < 1 || v.Origin.Line > lines || len(v.Text) == 0 {
					t.Fatalf("%s: %+v of %d lines", k, v, lines)
				}
			}
		}
		_, _ = r.Settings() // it may name what is not there; it must not panic
	})
}

// Reading and asking for 10,000 hosts takes a small part of a second, also where each has a block of its own.
func BenchmarkTenThousandHosts(b *testing.B) {
	for _, kind := range []string{"patterns", "a block each"} {
		b.Run(kind, func(b *testing.B) {
			var text strings.Builder
			for i := range 10_000 {
				switch {
				case kind != "patterns":
					fmt.Fprintf(&text, "Host host%d\n  HostName 10.0.%d.%d\n", i, i/256, i%256)
				case i < 200:
					fmt.Fprintf(&text, "Host host%d* !host%d1 *.dc%d\n  User u%d\n  Port 22\n", i, i, i, i)
				}
			}
			text.WriteString("Match host host*\n  IdentityFile ~/.ssh/%r\n  ServerAliveInterval 10\nHost *\n  ProxyJump gate\n")
			file := filepath.Join(b.TempDir(), "config")
			if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				c, err := Load(Options{File: file})
				if err != nil {
					b.Fatal(err)
				}
				for i := range 10_000 {
					r, err := c.Lookup(b.Context(), Query{Host: fmt.Sprint("host", i)})
					if err != nil {
						b.Fatal(err)
					}
					if _, err := r.Settings(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(time.Millisecond), "ms/10k-hosts")
		})
	}
}
