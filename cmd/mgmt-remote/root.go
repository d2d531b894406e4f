package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mgmt-remote",
		Short: "Run a payload on a fleet over SSH, with nothing installed on the hosts",
		Long: `mgmt-remote connects to each host over SSH, copies a payload there, gives it a way back to
one etcd through the SSH connection, runs it, and leaves no trace. While the payloads run
they exchange data and converge together through that etcd, although no host can reach
another.`,
		Example: `  mgmt-remote demo                               # a whole fleet in this process
  mgmt-remote run site.yaml                      # the file's remote: names its host
  mgmt-remote run -H h1 -H root@h2:2222 -- uname -a`,
		SilenceUsage:  true, // an error is one clear message, not a page
		SilenceErrors: true,
	}
	root.AddCommand(newRunCommand(), newDemoCommand(), newApplyCommand(), newVersionCommand())
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "mgmt-remote %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
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
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

// seconds is a flag value for durations that also takes a bare number of seconds, as mgmt does.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }

// Type is what the help calls the value.
func (s *seconds) Type() string { return "duration" }

func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, atoiErr := strconv.Atoi(text); atoiErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil {
		return fmt.Errorf("%q is neither a duration (5s, 2m) nor a number of seconds", text)
	}
	if d < 0 {
		return fmt.Errorf("%q is negative", text)
	}
	*s = seconds(d)
	return nil
}
