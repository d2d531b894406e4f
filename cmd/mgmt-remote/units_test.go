package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func TestExitCode(t *testing.T) {
	const ok, bad, failed, gone, stopped, taken = messages.OutcomeSucceeded, messages.OutcomePayloadFailed, messages.OutcomeFailed,
		messages.OutcomeUnreachable, messages.OutcomeCanceled, messages.OutcomeTakenOver
	for _, tc := range []struct {
		outcomes    []messages.Outcome
		timedOut    bool
		interrupted bool
		want        int
	}{
		{want: exitOK},
		{outcomes: []messages.Outcome{ok, ok}, want: exitOK},
		{outcomes: []messages.Outcome{ok, bad}, want: exitFailed},
		{outcomes: []messages.Outcome{failed, ok}, want: exitFailed},
		{outcomes: []messages.Outcome{ok, gone}, want: exitUnreachable},
		{outcomes: []messages.Outcome{gone, gone}, want: exitUnreachable},
		{outcomes: []messages.Outcome{gone, bad}, want: exitFailed},
		{outcomes: []messages.Outcome{0}, want: exitFailed}, // an outcome nobody knows is no success
		{outcomes: []messages.Outcome{ok}, timedOut: true, want: exitTimedOut},
		{outcomes: []messages.Outcome{gone}, timedOut: true, want: exitTimedOut},
		{outcomes: []messages.Outcome{bad}, timedOut: true, want: exitFailed},
		{outcomes: []messages.Outcome{ok, stopped}, interrupted: true, want: exitInterrupted},
		{outcomes: []messages.Outcome{failed, stopped}, interrupted: true, want: exitInterrupted},
		{outcomes: []messages.Outcome{ok}, interrupted: true, want: exitInterrupted},
		{outcomes: []messages.Outcome{taken, failed}, interrupted: true, want: exitTakenOver},
		{outcomes: []messages.Outcome{taken, ok}, want: exitTakenOver},
	} {
		report := fleet.Report{TimedOut: tc.timedOut}
		for _, o := range tc.outcomes {
			report.Results = append(report.Results, messages.Result{Outcome: o})
		}
		got := exitOK
		var exit exitError
		if err := exitCode(report, tc.interrupted); errors.As(err, &exit) {
			got = int(exit)
		}
		if got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

func TestDurationFlags(t *testing.T) {
	for _, tc := range []struct {
		text            string
		seconds, orEver time.Duration // -2: refused
	}{
		{"5", 5 * time.Second, 5 * time.Second},
		{"0", 0, 0},
		{"1m30s", 90 * time.Second, 90 * time.Second},
		{"100ms", 100 * time.Millisecond, 100 * time.Millisecond},
		{"forever", -2, -1},
		{"-1", -2, -2},
		{"-5s", -2, -2},
		{"5x", -2, -2},
		{"", -2, -2},
		{"99999999999999999999", -2, -2},
	} {
		var s seconds
		if err := s.Set(tc.text); (err != nil) != (tc.seconds == -2) || err == nil && time.Duration(s) != tc.seconds {
			t.Errorf("seconds %q: %v, %v", tc.text, time.Duration(s), err)
		}
		var p patience
		if err := p.Set(tc.text); (err != nil) != (tc.orEver == -2) || err == nil && time.Duration(p) != tc.orEver {
			t.Errorf("patience %q: %v, %v", tc.text, time.Duration(p), err)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Second: "10s", time.Hour + time.Second: "1h0m1s"} {
		if got := durationText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if p := patience(-1); p.String() != forever {
		t.Error(p.String())
	}
}

func TestTargets(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bare := file("bare.yaml", "graph: bare\n")
	a := file("a.yaml", "graph: a\nremote: ssh://root@a.example:2200\n")
	b := file("b.yaml", "graph: b\nremote: db=b.example\n")

	for _, tc := range []struct {
		name           string
		hosts          []string
		files, command []string
		want           string // name user addr port graph; ... or part of an error after "!"
	}{
		{"one file for all", []string{"x", "root@y:23"}, []string{bare}, nil, "x  x 0 bare; y-23 root y 23 bare"},
		{"a node set", []string{"u@x[1-3]:22!x2", "y"}, []string{bare}, nil, "x1 u x1 22 bare; x3 u x3 22 bare; y  y 0 bare"},
		{"the same host in two sets", []string{"x[1-2]", "x[2-3]"}, []string{bare}, nil, "x1  x1 0 bare; x2  x2 0 bare; x3  x3 0 bare"},
		{"one name for two hosts", []string{"x=a", "x=b"}, []string{bare}, nil, "!used twice, for a:22 and b:22"},
		{"-H goes before remote", []string{"x"}, []string{a}, nil, "x  x 0 a"},
		{"each file its host", nil, []string{a, b}, nil, "a.example-2200 root a.example 2200 a; db  b.example 0 b"},
		{"a command", []string{"x"}, nil, []string{"true"}, "x  x 0 "},
		{"no file, no command", []string{"x"}, nil, nil, "!nothing to run"},
		{"no host", nil, []string{bare}, nil, "!no host was named"},
		{"no host for a command", nil, nil, []string{"true"}, "!no host was named"},
		{"both", []string{"x"}, []string{bare}, []string{"true"}, "!not both"},
		{"two files for all", []string{"x"}, []string{a, b}, nil, "!one definition file"},
		{"the same host twice", nil, []string{a, a}, nil, "!used twice"},
		{"not a host", []string{"a b"}, []string{bare}, nil, "!--host: "},
	} {
		f := runFlags{hosts: hostFlags{named: tc.hosts, format: "auto"}, prefix: "/p"}
		var hosts []fleet.Host
		var sources []*source
		entries, err := f.hosts.choose(&cobra.Command{})
		if err == nil {
			hosts, sources, err = f.targets(entries, tc.files, tc.command)
		}
		var got []string
		for _, h := range hosts {
			if h.Prefix != "/p" {
				t.Errorf("%s: %s has the prefix %q", tc.name, h.Name, h.Prefix)
			}
			if i := len(got); len(tc.command) == 0 && (sources[i].file != h.File || string(sources[i].bytes) != string(h.Definition)) {
				t.Errorf("%s: %s is not the source of %s", tc.name, sources[i].file, h.Name)
			}
			line, _, _ := strings.Cut(string(h.Definition), "\n")
			got = append(got, strings.Join([]string{h.Name, h.User, h.Addr, strconv.Itoa(h.Port), strings.TrimPrefix(line, "graph: ")}, " "))
		}
		if want, isErr := strings.CutPrefix(tc.want, "!"); isErr {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want an error with %q", tc.name, err, want)
			}
		} else if err != nil || strings.Join(got, "; ") != tc.want {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}

func TestVariables(t *testing.T) {
	vars, err := parseVariables([]string{"a=2", "h1:a=3", "h1:b==x:y", "h2:b=", "c=all"})
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]map[string]inventory.Value{"h3": {"d": {Text: "said"}, "a": {Text: "said"}}} // by an inventory
	for host, want := range map[string]map[string]string{
		"h1": {"a": "3", "b": "=x:y", "c": "all"},
		"h2": {"a": "2", "b": "", "c": "all"},
		"h3": {"a": "2", "c": "all", "d": "said"},
	} {
		if got := variablesOf(vars, &inventory.Entry{Host: inventory.Host{Name: host}, Vars: said[host]}); !maps.Equal(got, want) {
			t.Errorf("%s has %q, want %q", host, got, want)
		}
	}
	if got := variablesOfAny(vars); !maps.Equal(got, map[string]string{"a": "2", "b": "", "c": "all"}) {
		t.Errorf("any host has %q", got)
	}
}

// Nobody has to guess what a command or a flag is for.
func TestEverythingHasHelp(t *testing.T) {
	root := newRootCommand()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s lacks a description or an example", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			_, text := pflag.UnquoteUsage(f)
			if len(strings.Fields(text)) < 3 || unicode.IsUpper([]rune(text)[0]) && unicode.IsLower([]rune(text)[1]) || strings.HasSuffix(text, ".") {
				t.Errorf("%s --%s: %q is no sentence in the style of the others", c.CommandPath(), f.Name, text)
			}
		})
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > helpWidth {
				t.Errorf("%s: %d columns: %s", c.CommandPath(), n, line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}
