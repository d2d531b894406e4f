// Command tour records docs/tour.svg: it types into a real terminal what a person would, in front of a fleet of simulated hosts, and
// makes an animation of what the terminal shows.
//
//	go run ./test/tour --program bin/mgmt-remote --output docs/tour.svg
//
// Nothing leaves loopback. The simulated hosts have one address each below 127.0.0.0/8, which works on Linux only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/test/terminal"
)

// The size of the terminal that is recorded.
const (
	cols = 96
	rows = 32
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		stop()
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var program, output string
	cmd := &cobra.Command{
		Use:   "tour",
		Short: "Record the tour of mgmt-remote as an animated SVG",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			film, err := record(cmd.Context(), program, script)
			if err != nil {
				return err
			}
			svg := film.svg(describe(script))
			cmd.Printf("%d frames, %v, %d KB\n", len(film.frames), film.length, len(svg)>>10)
			return renameio.WriteFile(output, svg, 0o644)
		},
	}
	cmd.Flags().StringVar(&program, "program", "bin/mgmt-remote", "the mgmt-remote to show")
	cmd.Flags().StringVar(&output, "output", "docs/tour.svg", "where the animation goes")
	return cmd
}

// record plays the scenes in a terminal and returns what was to be seen. The machine has a directory of its own as home, with
// an inventory of the simulated fleet in it.
func record(ctx context.Context, program string, scenes []scene) (f *film, err error) {
	program, err = filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w: `make build` makes it", err)
	}
	home, err := os.MkdirTemp("", "tour-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	fleet, err := newFleet(home)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fleet.Close()) }()
	bin := filepath.Join(home, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o700), os.Symlink(program, filepath.Join(bin, "mgmt-remote"))); err != nil {
		return nil, err
	}
	env := []string{"HOME=" + home, "HISTFILE=/dev/null", "PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH"), `PS1=\[\e[1;32m\]$\[\e[0m\] `}
	t, err := terminal.Start(home, cols, rows, env, "sh", "-c", "cd && exec bash --norc --noprofile")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	c := newCamera(ctx, t)
	for _, s := range scenes {
		if err := c.play(s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.about, err)
		}
	}
	return c.film(), nil
}

// describe tells in words what the scenes show, for those who can't see them.
func describe(scenes []scene) string {
	var text strings.Builder
	for _, s := range scenes {
		fmt.Fprintf(&text, "%s: %s\n", s.about, s.command)
	}
	return text.String()
}
