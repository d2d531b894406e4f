package main

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mgmt-remote",
		Short: "Run a payload on a fleet over SSH, with nothing installed on the hosts",
		Long: `mgmt-remote connects to each host over SSH, copies a payload there, gives it a
way back to one etcd through the SSH connection, runs it, and leaves no trace.
While the payloads run they exchange data and converge together through that
etcd, although no host can reach another.`,
		Example: `  mgmt-remote demo                      # a whole fleet in this process
  mgmt-remote run site.yaml             # the file's remote: names its host
  mgmt-remote run -H h1 -H root@h2:2222 -- uname -a`,
		Version:       thisBuild().Version,
		SilenceUsage:  true, // an error is one clear message, not a page
		SilenceErrors: true,
	}
	root.SetUsageFunc(usage)
	root.SetErr(standardError())
	root.AddCommand(fleetCommands()...)
	root.AddCommand(newApplyCommand(), newVersionCommand())
	root.Flags().Bool("version", false, "show the version")
	configure(root)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range append(root.Commands(), root) {
		describe(c)
		for _, sub := range c.Commands() {
			describe(sub)
		}
	}
	return root
}

// describe adds to a command what cobra leaves out.
func describe(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	c.Flags().Lookup("help").Usage = "show this text"
	switch c.CommandPath() {
	case "mgmt-remote help":
		c.Short, c.Long, c.Example = "Show the help of a command", "Show the help of a command.", "  mgmt-remote help run"
	case "mgmt-remote completion":
		c.Short, c.Example = "Make completions for a shell", "  mgmt-remote completion bash > /etc/bash_completion.d/mgmt-remote"
		c.Long = "Write a script to stdout that makes a shell complete commands, flags and files."
	case "mgmt-remote completion bash":
		c.Example = "  source <(mgmt-remote completion bash)"
		c.Long = "Write the completion script for bash to stdout. It needs the package\nbash-completion."
		c.RunE = bashCompletion
	case "mgmt-remote completion zsh":
		c.Example = "  mgmt-remote completion zsh > \"${fpath[1]}/_mgmt-remote\""
		c.Long = "Write the completion script for zsh to stdout. It needs compinit."
	case "mgmt-remote completion fish":
		c.Example = "  mgmt-remote completion fish > ~/.config/fish/completions/mgmt-remote.fish"
		c.Long = "Write the completion script for fish to stdout."
	case "mgmt-remote completion powershell":
		c.Example = "  mgmt-remote completion powershell | Out-String | Invoke-Expression"
		c.Long = "Write the completion script for PowerShell to stdout."
	}
}

// say writes a line to a person. What is in it may come from a host, so nothing of it reaches a terminal as a command. That it
// can't be written has no one to be told to.
func say(out io.Writer, format string, args ...any) {
	text := strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return printable(r)
	}, fmt.Sprintf(format, args...))
	_, _ = fmt.Fprintf(out, "mgmt-remote: %s\n", text)
}

// newLogger logs to stderr: warnings and errors, with -v what happens, with -vv everything.
func newLogger(format string, verbose int) (*slog.Logger, error) {
	level := slog.LevelWarn
	switch {
	case verbose == 1:
		level = slog.LevelInfo
	case verbose > 1:
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(standardError(), opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(standardError(), opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

// seconds is a flag value for durations that also takes a bare number of seconds, as mgmt does.
type seconds time.Duration

func (s *seconds) String() string { return durationText(time.Duration(*s)) }

// Type is what the help calls the value.
func (s *seconds) Type() string { return "TIME" }

func (s *seconds) Set(text string) error {
	d, err := parseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", text)
	}
	*s = seconds(d)
	return err
}

// patience is a flag value as seconds is, and may also be for ever.
type patience time.Duration

const forever = "forever"

func (p *patience) String() string {
	if *p < 0 {
		return forever
	}
	return durationText(time.Duration(*p))
}

// Type is what the help calls the value.
func (p *patience) Type() string { return "TIME" }

func (p *patience) Set(text string) error {
	if text == forever {
		*p = -1
		return nil
	}
	d, err := parseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative; without an end is %q", text, forever)
	}
	*p = patience(d)
	return err
}

func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a duration (5s, 2m) nor a number of seconds", text)
	}
	return d, nil
}

// durationText leaves out what is zero: 1m instead of 1m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
