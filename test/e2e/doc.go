// Package e2e has no code of its own: its tests run the real program, bin/mgmt-remote, against real SSH servers on
// loopback and look at the hosts from outside. `make e2e` runs them alone, `make test` with everything else.
//
// They need root (each host has a /var/tmp of its own, in a mount namespace) and what `make deps` installs.
package e2e
