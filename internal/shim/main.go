package shim

import (
	"fmt"
	"os"
	"runtime"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

const usage = `usage: mgmt-remote-shim start DIR MARKER         start the session in DIR unless it was started, then attach
       mgmt-remote-shim attach DIR MARKER        attach to the session in DIR
       mgmt-remote-shim tunnel DIR EPOCH MARKER  carry connections to DIR/etcd.EPOCH.sock over standard input and output
       mgmt-remote-shim version
`

// Main runs the shim; args is what follows the program's name (or `mgmt-remote shim`). It returns the exit code: 0,
// or 1 after an error, told on standard error or with a Refused frame.
func Main(args []string) int {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch {
	case command == "start" && len(args) == 3:
		return pipeMain(args[1], args[2], mayStart)
	case command == "attach" && len(args) == 3:
		return pipeMain(args[1], args[2], neverStart)
	case command == "tunnel" && len(args) == 4:
		return tunnelMain(args[1], args[2], args[3])
	case command == serveCommand && len(args) == 2:
		return serveMain(args[1], "")
	case command == serveCommand && len(args) == 3:
		return serveMain(args[1], args[2])
	case command == "version" && len(args) == 1:
		fmt.Printf("mgmt-remote-shim, protocol %d to %d, %s %s/%s\n", wire.MinVersion, wire.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return 0
	}
	fmt.Fprint(os.Stderr, usage)
	return 1
}

// complain tells on standard error why a command failed, which sshd brings to the initiator.
func complain(err error) int {
	fmt.Fprintln(os.Stderr, "mgmt-remote-shim:", err)
	return 1
}
