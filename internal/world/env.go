package world

import (
	"fmt"
	"log/slog"
	"strings"
)

// The variables in which the shim tells a payload where it is.
const (
	EnvEndpoints = "ETCDCTL_ENDPOINTS"
	EnvRun       = "MGMT_REMOTE_RUN"
	EnvHost      = "MGMT_REMOTE_HOST"
)

// Options of a World.
type Options struct {
	Endpoints []string // as etcd's client takes them; also unix:///path
	Run, Host string   // who speaks
	Logger    *slog.Logger
}

// FromEnv reads the options from the environment, by way of getenv (os.Getenv). It is false where the shim did not
// start this process; an error says that it did, but incompletely.
func FromEnv(getenv func(string) string) (opts Options, found bool, err error) {
	opts = Options{Run: getenv(EnvRun), Host: getenv(EnvHost)}
	if opts.Run == "" && opts.Host == "" {
		return Options{}, false, nil
	}
	for e := range strings.SplitSeq(getenv(EnvEndpoints), ",") {
		if e = strings.TrimSpace(e); e != "" {
			opts.Endpoints = append(opts.Endpoints, e)
		}
	}
	if err := opts.validate(); err != nil {
		return Options{}, false, err
	}
	return opts, true, nil
}

func (o Options) validate() error {
	for _, need := range []struct {
		name  string
		given bool
	}{{EnvRun, o.Run != ""}, {EnvHost, o.Host != ""}, {EnvEndpoints, len(o.Endpoints) > 0}} {
		if !need.given {
			return fmt.Errorf("%s is not set, although this process belongs to a run", need.name)
		}
	}
	return nil
}
