// Package mgmt knows the command line of mgmt (https://github.com/purpleidea/mgmt), a program that the user brings: how
// code is deployed into an etcd with it, and how a host runs what was deployed.
//
// The flags are those of mgmt 1.x. The package starts mgmt on this machine only, in Deploy.
package mgmt

import (
	"fmt"
	"os"
	"path/filepath"
)

// Code is what mgmt is to apply: the word for its language on mgmt's command line, and where it is.
type Code struct {
	Language string // "lang" (mcl) or "yaml"
	Path     string // absolute
}

// FindCode says what the code at path is: a .mcl file or a directory with metadata.yaml is lang, a .yaml file is yaml.
// It reads none of it.
func FindCode(path string) (Code, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return Code{}, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Code{}, err
	}
	switch {
	case fi.IsDir():
		if _, err := os.Stat(filepath.Join(abs, "metadata.yaml")); err != nil {
			return Code{}, fmt.Errorf("%s: a directory of mgmt code has a file metadata.yaml: %w", path, err)
		}
		return Code{"lang", abs}, nil
	case !fi.Mode().IsRegular():
		return Code{}, fmt.Errorf("%s is neither a file nor a directory", path)
	}
	switch filepath.Ext(abs) {
	case ".mcl":
		return Code{"lang", abs}, nil
	case ".yaml", ".yml":
		return Code{"yaml", abs}, nil
	}
	return Code{}, fmt.Errorf("%s: mgmt code is a .mcl file, a .yaml file, or a directory with metadata.yaml", path)
}

// deployArgs are the arguments that deploy code into the etcd at seeds, a URL. mgmt takes --noop from the deploy, not
// from the hosts' command line.
func deployArgs(code Code, seeds string, noop bool) []string {
	args := []string{"deploy", "--no-git", "--seeds=" + seeds}
	if noop {
		args = append(args, "--noop")
	}
	return append(args, code.Language, code.Path)
}

// RunArgs are the arguments with which a host applies whatever is deployed in the etcd at seeds, a URL, until it gets
// SIGINT. It appends "true" or "false" to the status file whenever it converges, for a second, or ceases to be. It
// opens no port: mgmt would like to become a member of the etcd cluster, and must not.
func RunArgs(host, seeds, statusFile string, noop bool) []string {
	args := []string{
		"run", "--hostname=" + host, "--tmp-prefix", "--no-pgp", "--no-server", "--seeds=" + seeds,
		"--converged-timeout=1", "--converged-timeout-no-exit", "--converged-status-file=" + statusFile,
	}
	if noop {
		args = append(args, "--noop")
	}
	return append(args, "empty")
}
