package wire

import "fmt"

// The protocol versions this build speaks. A version changes only where the meaning of existing frames does; new
// fields and frames alone don't need one.
const (
	Version    = 1 // the newest
	MinVersion = 1 // the oldest
)

// NewHello returns a Hello that offers the versions of this build.
func NewHello() *Hello { return &Hello{MinVersion: MinVersion, MaxVersion: Version} }

// Negotiate returns the newest version that both this build and a peer that speaks lowest to highest understand.
// The error, fit for a Refused, names both sides' versions.
func Negotiate(lowest, highest uint32) (uint32, error) {
	v := min(highest, Version)
	if lowest > highest || v < lowest || v < MinVersion {
		return 0, fmt.Errorf("no common protocol version: the initiator speaks %d to %d, the shim %d to %d", lowest, highest, MinVersion, Version)
	}
	return v, nil
}
