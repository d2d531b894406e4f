//go:build !engine

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManCommand makes `mgmt-remote man`, for those who make packages.
func newManCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man --dir DIR",
		Short: "Write the manual pages to files",
		Long: `Write the manual pages, one for each command, into DIR: mgmt-remote.1,
mgmt-remote-run.1 and so on. Their date is that of the commit this program was
built of, or $SOURCE_DATE_EPOCH.`,
		Example: "  mgmt-remote man --dir ~/.local/share/man/man1",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return errors.New("--dir is needed: where are the pages to go?")
			}
			day, err := manDate(os.Getenv("SOURCE_DATE_EPOCH"), thisBuild().Date)
			if err != nil {
				return err
			}
			return writeManPages(cmd.Root(), dir, day)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the `DIR` they go to; it is made if need be")
	return cmd
}

// manDate is the day on the pages: pages of the same program are the same bytes, whenever they are made.
func manDate(epoch, built string) (string, error) {
	if epoch != "" {
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return "", fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds", epoch)
		}
		return time.Unix(n, 0).UTC().Format(time.DateOnly), nil
	}
	if day, _, ok := strings.Cut(built, "T"); ok {
		return day, nil
	}
	return "", nil // nobody knows
}

func writeManPages(root *cobra.Command, dir, day string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for everyone to read
		return err
	}
	for _, c := range manCommands(root) {
		name := filepath.Join(dir, manName(c)+".1")
		if err := os.WriteFile(name, []byte(manPage(c, day)), 0o644); err != nil { //nolint:gosec // for everyone to read
			return err
		}
	}
	return nil
}

// manCommands are c and all below it that people are told of.
func manCommands(c *cobra.Command) []*cobra.Command {
	if c.Hidden {
		return nil
	}
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		list = append(list, manCommands(sub)...)
	}
	return list
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is one page in the language of man(7): the same words as the help, in the same groups.
func manPage(c *cobra.Command, day string) string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	put(`.TH %s 1 "%s" "mgmt-remote %s" "mgmt-remote"`, strings.ToUpper(roff(manName(c))), day, roff(thisBuild().Version))
	put(".SH NAME\n%s \\- %s", roff(manName(c)), roff(lowerFirst(c.Short)))
	put(".SH SYNOPSIS\n.nf")
	uses := strings.Split(c.UseLine(), "\n")
	if c.HasAvailableSubCommands() && !c.Runnable() {
		uses = nil
	}
	if c.HasAvailableSubCommands() {
		uses = append(uses, c.CommandPath()+" COMMAND")
	}
	for _, use := range uses {
		put("%s", roff(strings.TrimSpace(use)))
	}
	put(".fi\n.SH DESCRIPTION")
	manText(&b, c.Long)
	if c.HasAvailableSubCommands() {
		put(".SH COMMANDS")
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				put(".TP\n\\fB%s\\fR(1)\n%s", roff(manName(sub)), roff(sub.Short))
			}
		}
	}
	put(".SH OPTIONS")
	title := ""
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if group := f.Annotations[groupKey]; len(group) > 0 && group[0] != title {
			title = group[0]
			put(".SS %s", roff(title))
		}
		manFlag(&b, f)
	})
	if !c.HasParent() {
		put(".SH ENVIRONMENT")
		for _, v := range manEnvironment {
			put(".TP\n\\fB%s\\fR\n%s", v[0], roff(v[1]))
		}
	}
	if !c.HasParent() || c.Name() == "config" {
		put(".SH FILES\n.TP\n%s\nSettings of a person.\n.TP\n%s\nSettings of all.", roff("~/.config/mgmt-remote/mgmt-remote.yaml"), roff("/etc/mgmt-remote/mgmt-remote.yaml"))
	}
	put(".SH EXAMPLES\n.nf\n%s\n.fi", roff(c.Example))
	put(".SH SEE ALSO")
	var see []string
	if c.HasParent() {
		see = append(see, manName(c.Parent()))
	}
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			see = append(see, manName(sub))
		}
	}
	for i, name := range see {
		if i < len(see)-1 {
			put("\\fB%s\\fR(1),", roff(name))
		} else {
			put("\\fB%s\\fR(1)", roff(name))
		}
	}
	return b.String()
}

// manEnvironment are the variables that mean something to the program.
var manEnvironment = [][2]string{
	{"SSH_AUTH_SOCK", "The socket of the ssh-agent whose keys are offered."},
	{"MGMT_REMOTE_CONFIG", "The file that settings are read from, alone."},
	{"MGMT_REMOTE_FLAG, MGMT_REMOTE_COMMAND_FLAG", "The value of a flag, where the command line does not have it: MGMT_REMOTE_RETRY_FOR, MGMT_REMOTE_RUN_RETRY_FOR. See mgmt-remote-config(1)."},
	{"NO_COLOR", "If it is not empty, there are no colours, unless --color always."},
	{"XDG_STATE_HOME", "Where runs keep their state, below mgmt-remote/runs; ~/.local/state if it is not set."},
}

// manText writes paragraphs; those that are indented stay as they are.
func manText(b *strings.Builder, text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.HasPrefix(paragraph, " ") {
			paragraph = ".nf\n" + roff(paragraph) + "\n.fi"
		} else {
			paragraph = roff(paragraph)
		}
		b.WriteString(paragraph + "\n")
	}
}

func manFlag(b *strings.Builder, f *pflag.Flag) {
	value, usage := pflag.UnquoteUsage(f)
	b.WriteString(".TP\n")
	if f.Shorthand != "" {
		fmt.Fprintf(b, "\\fB\\-%s\\fR, ", f.Shorthand)
	}
	fmt.Fprintf(b, "\\fB\\-\\-%s\\fR", roff(f.Name))
	if value != "" {
		fmt.Fprintf(b, " \\fI%s\\fR", roff(value))
	}
	b.WriteString("\n" + roff(usage))
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
	default:
		fmt.Fprintf(b, " (default %s)", roff(f.DefValue))
	}
	b.WriteString("\n")
}

// roffText keeps what means something to roff from meaning it: a hyphen that a reader copies must be one.
var roffText = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "\n.", "\n\\&.", "…", `\&...`)

func roff(text string) string {
	if strings.HasPrefix(text, ".") {
		return `\&` + roffText.Replace(text)
	}
	return roffText.Replace(text)
}

// lowerFirst begins a sentence like the half of one, unless it begins with a name.
func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'a' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
