package store

import (
	"os"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) {
	// The test binary starts itself as another user to look at what is reachable.
	if what := os.Getenv("STORE_TEST_REACH"); what != "" {
		os.Exit(reachMain(what))
	}
	leaks.VerifyTestMain(m)
}
