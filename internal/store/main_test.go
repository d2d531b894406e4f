package store

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The test binary starts itself as another user to look at what is reachable.
	if what := os.Getenv("STORE_TEST_REACH"); what != "" {
		os.Exit(reachMain(what))
	}
	goleak.VerifyTestMain(m)
}
