package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// Set by the linker (see Makefile). What a plain go build leaves empty is taken from what Go itself puts in.
var (
	version = ""
	commit  = ""
	date    = "" // of the commit, RFC 3339
)

// unknownVersion is the version of a program that was built outside of any repository.
const unknownVersion = "devel"

// build says what this program was made of.
type build struct {
	Version  string    `json:"version"`
	Commit   string    `json:"commit,omitempty"`
	Date     string    `json:"date,omitempty"`
	Modified bool      `json:"modified,omitempty"` // there were changes that are not in the commit
	Go       string    `json:"go"`
	OS       string    `json:"os"`
	Arch     string    `json:"arch"`
	Programs []program `json:"programs"` // for hosts
}

// program is one for hosts that is inside this one. The type is not shimbin's, so that the engine, which has none inside,
// does not change when they do.
type program struct {
	Kind   string `json:"kind"` // shim or engine
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	SHA256 string `json:"sha256"`
}

// thisBuild is what is known of the running program, without its programs for hosts.
func thisBuild() build {
	info, _ := debug.ReadBuildInfo()
	return describeBuild(build{Version: version, Commit: commit, Date: date}, info)
}

// describeBuild adds to what the linker was told what Go noted. The linker goes before: it was told by a person.
func describeBuild(b build, info *debug.BuildInfo) build {
	b.Go, b.OS, b.Arch, b.Programs = runtime.Version(), runtime.GOOS, runtime.GOARCH, []program{}
	if info != nil {
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version // go install …@version, or the tag of the repository
		}
		if b.Commit == "" {
			for _, s := range info.Settings {
				switch s.Key {
				case "vcs.revision":
					b.Commit = s.Value
				case "vcs.time":
					b.Date = s.Value
				case "vcs.modified":
					b.Modified = s.Value == "true"
				}
			}
		}
	}
	if b.Version == "" {
		b.Version = unknownVersion
	}
	return b
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	var verbose int
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version and what is built in",
		Long: `Show the version, the Go it was built with, the platform and the commit. With
--verbose or --json show the programs for hosts that are inside, too: for each
its platform and its SHA-256, which is its name in the cache of a host.`,
		Example:           "  mgmt-remote version\n  mgmt-remote version --json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if asJSON || verbose > 0 {
				var err error
				if b.Programs, err = embeddedPrograms(); err != nil {
					return err
				}
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			}
			return b.write(cmd.OutOrStdout())
		},
	}
	cmd.Flags().CountVarP(&verbose, "verbose", "v", "``show the programs for hosts that are inside, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}

// write shows b to a person.
func (b build) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "mgmt-remote %s %s %s/%s\n", b.Version, b.Go, b.OS, b.Arch) // Flush tells
	if b.Commit != "" {
		changed := ""
		if b.Modified {
			changed = ", with changes"
		}
		_, _ = fmt.Fprintf(w, "commit %s of %s%s\n", b.Commit, b.Date, changed)
	}
	for _, p := range b.Programs {
		_, _ = fmt.Fprintf(w, "%s\t%s/%s\tsha256 %.12s\n", p.Kind, p.OS, p.Arch, p.SHA256)
	}
	return w.Flush()
}
