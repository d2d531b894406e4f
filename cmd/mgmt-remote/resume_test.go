//go:build !engine

package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
)

// What is said of passwords for a run that goes on takes the place of what the run asked for; its groups stay.
func TestPasswordsOfAContinuedRun(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		setting bool   // the flags are from a file
		want    string // of the error
		ask     bool
		program bool
		shared  string
	}{
		"nothing":           {shared: "web"},
		"asking":            {args: []string{"--ask-become-pass"}, ask: true, shared: "web"},
		"a program":         {args: []string{"--become-password-command", "x"}, program: true},
		"a group":           {args: []string{"--ask-become-pass=web"}, want: "--ask-become-pass: the run knows its groups"},
		"a group in a file": {args: []string{"--ask-become-pass=web"}, setting: true, shared: "web"},
		"both":              {args: []string{"--ask-become-pass", "--become-password-command", "x"}, want: "--ask-become-pass asks for all hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			var f resumeFlags
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			f.registerCommon(flags)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			if c.setting {
				flags.Lookup("ask-become-pass").Annotations = map[string][]string{originKey: {"mgmt-remote.yaml:1"}}
			}
			opts := fleet.Options{Hosts: []fleet.Host{{BecomeShared: "web", Shared: "db"}}}
			err := f.passwords(&opts)
			switch {
			case (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want):
				t.Errorf("%v", err)
			case err == nil && (opts.Become.AskPassword != c.ask || (opts.Become.Password != nil) != c.program || opts.Hosts[0].BecomeShared != c.shared || opts.Hosts[0].Shared != "db"):
				t.Errorf("%+v", opts)
			}
		})
	}
}
