package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/internal/config"
)

// samples are values of each type of flag, and how the flag shows them.
var samples = map[string][2]string{
	"bool": {"true", "true"}, "int": {"7", "7"}, "count": {"7", "7"}, "string": {"x", "x"}, "TIME": {"7", "7s"},
	"stringArray": {"x", "[x]"}, "stringSlice": {"x", "[x]"}, "KEY=VALUE": {"k=v", ""}, "group": {"x", "x"}, "N|N%": {"7%", "7%"},
}

// forEachSetting calls f for all flags of all commands.
func forEachSetting(t *testing.T, f func(command string, flag *pflag.Flag, sample, shown string)) {
	t.Helper()
	n := 0
	for _, c := range within(newRootCommand(), "") {
		for _, flag := range settable(c) {
			n++
			sample, known := samples[flag.Value.Type()]
			if !known {
				t.Errorf("%s --%s: the test has no sample of a %s", path(c), flag.Name, flag.Value.Type())
				continue
			}
			if flag.Name == "var" && flag.Value.Type() == "stringArray" { // at graph check it is KEY=VALUE
				sample = [2]string{"k=v", "[k=v]"}
			}
			f(path(c), flag, sample[0], sample[1])
		}
	}
	if n < 50 {
		t.Errorf("only %d flags", n)
	}
}

// settled is the flag of a command after the configuration was taken.
func settled(t *testing.T, l layers, command, flag string) *pflag.Flag {
	t.Helper()
	c, _, err := newRootCommand().Find(strings.Fields(command))
	if err != nil || path(c) != command {
		t.Fatalf("%s: %v", command, err)
	}
	for _, set := range l {
		for _, s := range set {
			if err := check(s); err != nil {
				t.Error(err)
			}
		}
	}
	if err := l.settle(c); err != nil {
		t.Error(err)
	}
	return c.Flag(flag)
}

// Each flag of each command can be set by a file and by a variable, for its command alone and for all that have it.
func TestEveryFlagCanBeConfigured(t *testing.T) {
	forEachSetting(t, func(command string, flag *pflag.Flag, sample, shown string) {
		words := strings.Fields(command)
		for _, text := range []string{
			flag.Name + ": " + sample,
			strings.Join(words, ": {") + ": {" + flag.Name + ": " + sample + strings.Repeat("}", len(words)),
		} {
			set, err := config.Parse("c.yaml", []byte(text))
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			if f := settled(t, layers{set}, command, flag.Name); f.Value.String() != shown || !f.Changed || f.Annotations[originKey] == nil {
				t.Errorf("%s of %s: %q, want %q", text, command, f.Value, shown)
			}
		}
		for _, name := range []string{variableOf("", flag.Name), variableOf(command, flag.Name)} {
			set, unknown := environment(newRootCommand(), []string{name + "=" + sample})
			if len(set) != 1 || unknown != nil {
				t.Errorf("%s: %+v", name, set)
				continue
			}
			if f := settled(t, layers{set}, command, flag.Name); f.Value.String() != shown || f.Annotations[originKey][0] != "$"+name {
				t.Errorf("%s of %s: %q, want %q", name, command, f.Value, shown)
			}
		}
	})
}

// A variable means one thing, and what is set for all commands is good for all that have the flag.
func TestSettingsAreUnambiguous(t *testing.T) {
	means, types := map[string]string{}, map[string]string{}
	forEachSetting(t, func(command string, flag *pflag.Flag, _, _ string) {
		for _, of := range []string{"", command} {
			name, what := variableOf(of, flag.Name), of+" --"+flag.Name
			if other, ok := means[name]; ok && other != what {
				t.Errorf("$%s is %q and %q", name, other, what)
			}
			if means[name] = what; foreign.MatchString(name) {
				t.Errorf("$%s is used for something else", name)
			}
		}
		if other, ok := types[flag.Name]; ok && other != flag.Value.Type() && flag.Name != "var" {
			t.Errorf("--%s is a %s and a %s", flag.Name, other, flag.Value.Type())
		}
		types[flag.Name] = flag.Value.Type()
	})
	for flag, losers := range drops {
		for _, name := range append(losers, flag) {
			if _, ok := types[name]; !ok {
				t.Errorf("there is no --%s to be overruled", name)
			}
		}
	}
}

// What comes first in a row goes before what comes later.
func TestSettingsHaveRanks(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	file := filepath.Join(dir, "mgmt-remote", "mgmt-remote.yaml")
	for _, tc := range []struct {
		name, file string
		env        map[string]string
		args       []string
		want       map[string]string // flags of run
		from       map[string]string
	}{
		{name: "the section goes before all", file: "retry-for: 1\nrun: {retry-for: 2}\n", want: map[string]string{"retry-for": "2s"}, from: map[string]string{"retry-for": ":2:7"}},
		{name: "other sections are nothing to it", file: "retry-for: 1\nclean: {keepalive-count: 9}\n", want: map[string]string{"retry-for": "1s", "keepalive-count": "3"}},
		{name: "variables go before files", file: "run: {retry-for: 2}\n", env: map[string]string{"MGMT_REMOTE_RETRY_FOR": "3"}, want: map[string]string{"retry-for": "3s"}, from: map[string]string{"retry-for": "$MGMT_REMOTE_RETRY_FOR"}},
		{name: "that of the command goes before", env: map[string]string{"MGMT_REMOTE_RETRY_FOR": "3", "MGMT_REMOTE_RUN_RETRY_FOR": "4"}, want: map[string]string{"retry-for": "4s"}},
		{name: "flags go before all", env: map[string]string{"MGMT_REMOTE_RUN_RETRY_FOR": "4"}, args: []string{"--retry-for", "5"}, want: map[string]string{"retry-for": "5s"}},
		{name: "a list is replaced, not added to", file: "host: [a, b]\n", args: []string{"-H", "c"}, want: map[string]string{"host": "[c]"}},
		{name: "a list in a variable", file: "host: [a, b]\n", env: map[string]string{"MGMT_REMOTE_HOST": "c,d\ne\n"}, want: map[string]string{"host": `["c,d",e]`}},
		{name: "an empty list", file: "host: [a]\nrun: {host: []}\n", want: map[string]string{"host": "[]"}},
		{name: "a flag that needs no value", file: "ask-pass: true\n", want: map[string]string{"ask-pass": "all"}},
		{name: "an empty variable is none", file: "retry-for: 2\n", env: map[string]string{"MGMT_REMOTE_RETRY_FOR": ""}, want: map[string]string{"retry-for": "2s"}},
		{name: "a flag overrules what contradicts it", file: "retry-for: 10m\n", args: []string{"--stay"}, want: map[string]string{"retry-for": "1m", "stay": "true"}},
		{name: "and a section what all are told", file: "retry-for: 10m\nrun: {stay: true}\n", want: map[string]string{"retry-for": "1m", "stay": "true"}},
		{name: "in a session of a run nothing counts", file: "retry-for: 2\n", env: map[string]string{"MGMT_REMOTE_RUN": "r", "MGMT_REMOTE_HOST": "h1"}, want: map[string]string{"retry-for": "1m", "host": "[]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			list, _, err := valuesOf([]string{"run"}, tc.args, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range list {
				got := strings.Join(v.Values, " ")
				if strings.HasPrefix(tc.want[v.Flag], "[") {
					got = flagText(v.Values)
				}
				if want, ok := tc.want[v.Flag]; ok && got != want {
					t.Errorf("--%s is %s, want %s", v.Flag, got, want)
				}
				if want, ok := tc.from[v.Flag]; ok && !strings.HasSuffix(v.From, want) {
					t.Errorf("--%s is from %s, want %s", v.Flag, v.From, want)
				}
			}
		})
	}
}

// flagText shows a list as pflag does.
func flagText(values []string) string {
	var p pflag.FlagSet
	list := p.StringArray("x", nil, "")
	*list = values
	return p.Lookup("x").Value.String()
}

func TestSettingsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		"retry-four: 1":                            `c.yaml:1:1: unknown key: no command has a flag --retry-four; did you mean retry-for?`,
		"retry_for: 1":                             `did you mean retry-for?`,
		"run: {hosts: 3}":                          `c.yaml:1:7: unknown key: run has not a flag --hosts; did you mean host?`,
		"runn: {host: x}":                          `c.yaml:1:8: there is no command "runn"; there are`,
		"help: {host: x}":                          `unknown key`,
		"config: x":                                `unknown key`,
		"stay: yes please":                         `c.yaml:1:1: stay: "yes please" is neither true nor false`,
		"stay: [true]":                             `c.yaml:1:1: stay: takes one value, not a list`,
		"keepalive-count: 1.5":                     `keepalive-count: "1.5" is no whole number`,
		"retry-for: soon":                          `retry-for: "soon" is neither a duration`,
		"host: ssh://root:hunter2@h":               `c.yaml:1:1: host: a password does not belong`,
		"host: [h, ssh://root:hunter2@h]":          `host: a password does not belong`,
		"etcd-endpoints: https://u:hunter2@h:2379": `a password does not belong`,
	} {
		set, err := config.Parse("c.yaml", []byte(text))
		if err != nil || len(set) != 1 {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := check(set[0]); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	set, unknown := environment(newRootCommand(), []string{"MGMT_REMOTE_RETYR_FOR=1", "MGMT_REMOTE_STAY=perhaps", "MGMT_REMOTE_CONFIG=x", "MGMT_REMOTE_E2E_HOSTS=3", "HOME=/"})
	if !slices.Equal(unknown, []string{"MGMT_REMOTE_RETYR_FOR"}) || len(set) != 1 {
		t.Errorf("%q, %+v", unknown, set)
	} else if err := check(set[0]); err == nil || !strings.HasPrefix(err.Error(), "$MGMT_REMOTE_STAY: stay: ") {
		t.Error(err)
	}
}

// What people copy from docs/config.md must work.
func TestConfigurationInDocumentIsGood(t *testing.T) {
	page, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```")
	n := 0
	for i := 1; i < len(blocks); i += 2 {
		text, isYAML := strings.CutPrefix(blocks[i], "yaml\n")
		if !isYAML {
			continue
		}
		set, err := config.Parse("config.md", []byte(text))
		if err != nil {
			t.Error(err)
		}
		for _, s := range set {
			n++
			if err := check(s); err != nil {
				t.Error(err)
			}
		}
	}
	if n < 5 {
		t.Errorf("%d settings", n)
	}
}
