// Package freshroot lets a test be root on a copy of this machine that nobody else sees: it may add users, install packages
// and edit /etc, with the real programs, and nothing of it reaches the machine.
//
//	func TestAddsUser(t *testing.T) {
//		freshroot.Run(t, func() {
//			…
//		})
//	}
//
// Run starts the test binary once more, for this one test, in new mount, PID and IPC namespaces (namespaces(7)). There
// the root is an overlay (overlayfs, kernel documentation) of the file system at / with a tmpfs that takes all changes.
// The rest is as follows.
//
//   - /proc is of the new PID namespace. All processes that the test leaves end with it.
//   - /run, /tmp, /var/tmp and /dev/shm are empty. /sys is empty and not mounted.
//   - /dev is the machine's: a test that writes to a disk writes to a disk.
//   - The network is the machine's, but sockets in the file system (D-Bus, nscd, systemd) can't be reached.
//   - What else is mounted on the machine is not there, except for the test binary and the working directory, which
//     can be read.
//
// It needs root, Linux and overlayfs, and fails without: a test that did not run must not look like one that passed.
package freshroot
