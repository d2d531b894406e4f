//go:build !engine

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/internal/config"
	"github.com/mgmt-remote/mgmt-remote/internal/world"
)

// The configuration: what flags are set to by the environment and by files, where the command line does not set them.

const (
	envPrefix     = "MGMT_REMOTE_"
	envConfig     = envPrefix + "CONFIG"
	originKey     = "mgmt-remote-origin"                  // the annotation that says where a flag's value is from
	exclusiveMark = "cobra_annotation_mutually_exclusive" // cobra's, where flags are MarkFlagsMutuallyExclusive
)

// drops says what a flag makes of lower ones: those that contradict it are not an error, they are overruled.
var drops = map[string][]string{
	"stay":          {"retry-for"},
	"retry-for":     {"stay"},
	"detach":        {"json", "output", "diff"},
	"json":          {"output", "detach"},
	"output":        {"json"},
	"inventory":     {"host"},
	"inventory-cmd": {"host"},
}

// layers are settings in the order in which they are looked at. Those of one layer can contradict each other.
type layers [][]config.Setting

// configured reads the environment and files for root's commands. With a file named by --config or $MGMT_REMOTE_CONFIG
// others are not looked for. What runs in a session of a host belongs to a run, and is set by that alone.
func configured(root *cobra.Command, file string) (layers, []string, error) {
	inSession := os.Getenv(world.EnvRun) != ""
	var all layers
	if !inSession {
		set, unknown := environment(root, os.Environ())
		for _, name := range unknown {
			say(root.ErrOrStderr(), "warning: $%s is set, and no command has such a flag", name)
		}
		all = append(all, set)
	}
	var files []string
	switch named := cmp.Or(file, os.Getenv(envConfig)); {
	case named != "":
		files = []string{named}
	case !inSession:
		files = config.Files(os.Getenv)
	}
	var read []string
	for _, name := range files {
		set, err := config.Read(name)
		if errors.Is(err, fs.ErrNotExist) && name != file && name != os.Getenv(envConfig) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("configuration: %w", err)
		}
		read = append(read, name)
		all = append(all, set)
	}
	for _, set := range all {
		for _, s := range set {
			if err := check(s); err != nil {
				return nil, nil, err
			}
		}
	}
	return all, read, nil
}

// settable are the flags of a command that the configuration can set.
func settable(c *cobra.Command) []*pflag.Flag {
	if c.Hidden || c.Name() == "help" || c.Name() == "completion" || c.HasParent() && c.Parent().Name() == "completion" {
		return nil
	}
	var flags []*pflag.Flag
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "version" && f.Name != "config" && !f.Hidden {
			flags = append(flags, f)
		}
	})
	return flags
}

// path is a command as sections name it: "graph check".
func path(c *cobra.Command) string {
	_, path, _ := strings.Cut(c.CommandPath(), " ")
	return path
}

// within are the commands that a section is for: the one it names and those below it.
func within(root *cobra.Command, section string) []*cobra.Command {
	var list []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if p := path(c); section == "" || p == section || strings.HasPrefix(p, section+" ") {
			list = append(list, c)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return list
}

// variableOf is the variable for a flag, of one command or, with "", of all.
func variableOf(command, flag string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(" ", "_", "-", "_").Replace(strings.TrimSpace(command+" "+flag)))
}

// foreign matches variables that are not about flags: our own, and those of tests.
var foreign = regexp.MustCompile(`^` + envPrefix + `(CONFIG|DETACHED_FD|DIR|E2E_.*|TEST_.*)$`)

// environment are the settings that variables make, and the names of those that look like one and are not. Repeatable
// flags take one value per line.
func environment(root *cobra.Command, env []string) (set []config.Setting, unknown []string) {
	env = slices.DeleteFunc(slices.Clone(env), func(pair string) bool { return !strings.HasPrefix(pair, envPrefix) })
	if len(env) == 0 {
		return nil, nil
	}
	known := map[string]config.Setting{}
	for _, c := range within(root, "") {
		for _, f := range settable(c) {
			for _, command := range []string{"", path(c)} {
				name := variableOf(command, f.Name)
				known[name] = config.Setting{Command: command, Flag: f.Name, List: repeats(f), Origin: "$" + name}
			}
		}
	}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		s, ok := known[name]
		if value == "" || !ok && foreign.MatchString(name) {
			continue
		}
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		s.Values = []string{value}
		if s.List {
			s.Values = strings.FieldsFunc(value, func(r rune) bool { return r == '\n' })
		}
		set = append(set, s)
	}
	return set, unknown
}

// repeats reports whether a flag can be given many times, each time with one value more.
func repeats(f *pflag.Flag) bool {
	switch f.Value.(type) {
	case pflag.SliceValue, variables, *askFlag:
		return true
	}
	return false
}

var passwordInURL = regexp.MustCompile(`^[^/]*://[^/@]*:[^/]*@`)

// check refuses a setting that is wrong for any of the commands that it is for. They are others than those that are
// about to run, so that nothing is left in those.
func check(s config.Setting) error {
	root := newRootCommand()
	commands := within(root, s.Command)
	if len(commands) == 0 {
		var names []string
		for _, c := range within(root, "")[1:] {
			names = append(names, path(c))
		}
		return fmt.Errorf("%s: there is no command %q; there are %s", s.Origin, s.Command, strings.Join(names, ", "))
	}
	found := false
	for _, c := range commands {
		for _, f := range settable(c) {
			if f.Name != s.Flag {
				continue
			}
			found = true
			if err := set(c.Flags(), f, s); err != nil {
				return err
			}
		}
	}
	if !found {
		whose := "no command has"
		if s.Command != "" {
			whose = s.Command + " has not"
		}
		return fmt.Errorf("%s: unknown key: %s a flag --%s%s", s.Origin, whose, s.Flag, likely(commands, s.Flag))
	}
	for _, value := range s.Values {
		if passwordInURL.MatchString(value) {
			return fmt.Errorf("%s: %s: a password does not belong into the configuration: use a key, the ssh-agent or --ask-pass", s.Origin, s.Flag)
		}
	}
	return nil
}

// likely is a hint at the flag that may be meant: the one that begins most like it.
func likely(commands []*cobra.Command, name string) string {
	name = strings.ReplaceAll(name, "_", "-")
	best, most := "", 2
	for _, c := range commands {
		for _, f := range settable(c) {
			n := 0
			for n < len(name) && n < len(f.Name) && name[n] == f.Name[n] {
				n++
			}
			if n > most {
				best, most = f.Name, n
			}
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// set gives a flag the values of a setting.
func set(flags *pflag.FlagSet, f *pflag.Flag, s config.Setting) error {
	if s.List && !repeats(f) {
		return fmt.Errorf("%s: %s: takes one value, not a list", s.Origin, s.Flag)
	}
	if slice, ok := f.Value.(pflag.SliceValue); ok && len(s.Values) == 0 {
		f.Changed = true
		return slice.Replace(nil)
	}
	for _, value := range s.Values {
		if f.NoOptDefVal != "" && value == "true" { // as the flag without a value
			value = f.NoOptDefVal
		}
		err := flags.Set(f.Name, value)
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) {
			err = invalid.Unwrap()
		}
		var number *strconv.NumError
		switch {
		case err == nil:
			continue
		case errors.As(err, &number) && f.Value.Type() == "bool":
			err = fmt.Errorf("%q is neither true nor false", value)
		case errors.As(err, &number):
			err = fmt.Errorf("%q is no whole number", value)
		}
		return fmt.Errorf("%s: %s: %w", s.Origin, s.Flag, err)
	}
	return nil
}

// settle sets those flags of a command that the command line leaves to the configuration, and notes where from.
func (l layers) settle(c *cobra.Command) error {
	for _, layer := range l {
		for section := path(c); ; section, _, _ = cutLast(section) { // the more a section says, the sooner it is asked
			dropped := map[string]struct{}{}
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Changed {
					for _, name := range overruled(f) {
						dropped[name] = struct{}{}
					}
				}
			})
			for _, s := range layer {
				if s.Command != section {
					continue
				}
				i := slices.IndexFunc(settable(c), func(f *pflag.Flag) bool { return f.Name == s.Flag })
				if i < 0 { // it is for others
					continue
				}
				f := settable(c)[i]
				if _, out := dropped[f.Name]; out || f.Changed {
					continue
				}
				if err := set(c.Flags(), f, s); err != nil {
					return err
				}
				if f.Annotations == nil {
					f.Annotations = map[string][]string{}
				}
				f.Annotations[originKey] = []string{s.Origin}
			}
			if section == "" {
				break
			}
		}
	}
	return nil
}

// cutLast cuts the last word off.
func cutLast(text string) (before, after string, found bool) {
	if i := strings.LastIndexByte(text, ' '); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return "", text, false
}

// overruled are the flags that lose against f.
func overruled(f *pflag.Flag) []string {
	names := slices.Clone(drops[f.Name])
	for _, group := range f.Annotations[exclusiveMark] {
		names = append(names, strings.Fields(group)...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == f.Name })
}

// configure makes all commands of root take what the configuration says.
func configure(root *cobra.Command) {
	root.PersistentFlags().String("config", "", "read settings from `FILE` alone (default: see mgmt-remote help config)")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if settable(c) == nil {
			return nil
		}
		l, _, err := configured(c.Root(), c.Flag("config").Value.String())
		if err != nil {
			return err
		}
		return l.settle(c)
	}
}

// explain says of an error about a flag that was set by the configuration where it was set.
func explain(c *cobra.Command, err error) error {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		named := regexp.MustCompile(`--` + regexp.QuoteMeta(f.Name) + `($|[^a-z-])`)
		if from := f.Annotations[originKey]; len(from) > 0 && named.MatchString(err.Error()) {
			err = fmt.Errorf("%w (--%s is set by %s)", err, f.Name, from[0])
		}
	})
	return err
}
