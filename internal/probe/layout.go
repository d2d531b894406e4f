package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
)

// Names below a base directory and below a session directory.
const (
	CacheDir   = "cache"        // in the base: cache/<sha256>/<name>
	SpecFile   = "session.json" // in a session directory: what the shim is to do
	RecordFile = "shim.json"    // in a session directory: written by the shim when it starts
)

// maxSocketPath is what sun_path takes with its final NUL on BSD and macOS (104 bytes; Linux has 108).
const maxSocketPath = 104 - 1

// longestSocket is the longest name of a socket in a session directory: a tunnel's end with a ten-digit number.
const longestSocket = "/etcd.9999999999.sock"

// BaseDir returns the base directory of the user uid below dir.
func BaseDir(dir string, uid int) string {
	if dir == "/" {
		dir = ""
	}
	return dir + "/mgmt-remote-" + strconv.Itoa(uid)
}

// SessionDir returns the session directory of a host in a run: base/run/host. Where the sockets in it would get paths that are longer
// than any system takes, the host's part is shortened to its first letters, a '+' (which no host name has) and a hash.
func SessionDir(base, run, host string) string {
	if len(base) <= fullBase(run, host) {
		return base + "/" + run + "/" + host
	}
	return base + "/" + run + "/" + shortHost(host)
}

// fullBase is the length up to which a base leaves room for the host's full name.
func fullBase(run, host string) int {
	return maxSocketPath - len(longestSocket) - len("/") - len(run) - len("/") - len(host)
}

// maxBase is the length up to which a base can be used at all.
func maxBase(run, host string) int {
	return max(fullBase(run, host), fullBase(run, shortHost(host)))
}

func shortHost(host string) string {
	sum := sha256.Sum256([]byte(host))
	return host[:min(5, len(host))] + "+" + hex.EncodeToString(sum[:5])
}

var (
	safePath = regexp.MustCompile(`^/[A-Za-z0-9/._+,@%=-]*$`)
	runName  = regexp.MustCompile(`^[a-z0-9]{1,32}$`)
	hostName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$`)
	dotDot   = regexp.MustCompile(`(^|/)\.\.?(/|$)`)
)

// ValidPath says whether path is one that this project uses on a host: absolute, without dot elements, of characters that mean
// nothing to any shell.
func ValidPath(path string) error {
	if !safePath.MatchString(path) || dotDot.MatchString(path) {
		return fmt.Errorf("%q is not an absolute path of letters, digits and . _ + , @ %% = - without . and .. elements", path)
	}
	return nil
}

// ValidSession checks the two names that make a session directory.
func ValidSession(run, host string) error {
	if !runName.MatchString(run) {
		return fmt.Errorf("%q is not a run ID", run)
	}
	if !hostName.MatchString(host) {
		return fmt.Errorf("%q is not a host name", host)
	}
	return nil
}
