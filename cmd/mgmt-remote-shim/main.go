// Command mgmt-remote-shim runs on a host as the parent of a payload. It is copied there and started over SSH by
// mgmt-remote; people have no reason to call it. See package internal/shim.
package main

import (
	"os"

	"github.com/mgmt-remote/mgmt-remote/internal/shim"
)

func main() { os.Exit(shim.Main(os.Args[1:])) }
