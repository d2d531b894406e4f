// Mgmtstandin stands in for mgmt 1.x in tests. It takes exactly the arguments that mgmt-remote gives to mgmt, and asks
// the etcd at --seeds for what mgmt asks, with etcd's own client: everything below /_mgmt, a lease, the cluster's
// members, whose client URLs are its endpoints from then on.
//
// Its code is a list of instructions, one a line, for all hosts or, after @NAME, for one:
//
//	converged           append "true" to the status file, as mgmt does
//	diverged            append "false"
//	flap                append both at once: a divergence as short as can be
//	write PATH TEXT     make a file
//	await PATH          wait until a file is there
//	meet NAME…          write a key that all hosts see, and wait for those of the others
//	try KEY             write any key, and say whether that was allowed
//	count               say how many deploys there are
//	crash               end with status 3
//
// In the code, $HOME, $MGMT_REMOTE_RUN and other variables stand for their values. A deploy of code with the line
// "mistake" fails as one with a type error does, and one with "hang" never ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := errors.New("usage: mgmtstandin deploy|run …")
	if len(os.Args) > 1 && os.Args[1] == "deploy" {
		err = deployMain(ctx, os.Args[2:])
	} else if len(os.Args) > 1 && os.Args[1] == "run" {
		err = runMain(ctx, os.Args[2:])
	}
	var crash exitStatus
	if errors.As(err, &crash) {
		os.Exit(int(crash))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mgmt stand-in:", err)
		os.Exit(1)
	}
}

type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// flags takes --name and --name=value off the front of args. All of wanted must be there, those of optional may; a name
// that ends in = has a value. Anything else is an error.
func flags(args, wanted, optional []string) (values map[string]string, rest []string, err error) {
	values = map[string]string{}
	for len(args) > 0 && strings.HasPrefix(args[0], "--") {
		name, value, hasValue := strings.Cut(args[0], "=")
		if hasValue {
			name += "="
		}
		if _, twice := values[name]; twice || !slices.Contains(wanted, name) && !slices.Contains(optional, name) {
			return nil, nil, fmt.Errorf("unknown argument %s", args[0])
		}
		values[name] = value
		args = args[1:]
	}
	for _, name := range wanted {
		if _, ok := values[name]; !ok {
			return nil, nil, fmt.Errorf("%s is missing", name)
		}
	}
	return values, args, nil
}
