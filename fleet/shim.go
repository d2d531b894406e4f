package fleet

import (
	"os"

	"github.com/mgmt-remote/mgmt-remote/internal/shim"
	"github.com/mgmt-remote/mgmt-remote/internal/shimbin"
)

// ShimMain lets the calling program be the shim on hosts of its own platform, where no smaller one is embedded. It is
// called first thing in main. When this process was started as a shim it does not return: it does the shim's work and
// exits.
func ShimMain() {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(shim.Main(os.Args[2:]))
	}
	shimbin.DeclareShim()
}
