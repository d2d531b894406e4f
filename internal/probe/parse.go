package probe

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// systems and machines translate the words of uname -s and -m into Go's. Other words are kept in lower case.
var (
	systems  = map[string]string{"sunos": "solaris"}
	machines = map[string]string{
		"x86_64": "amd64", "aarch64": "arm64", "aarch64_be": "arm64be", "armv8l": "arm",
		"i386": "386", "i486": "386", "i586": "386", "i686": "386", "i86pc": "amd64",
		"armv5tel": "arm", "armv5tejl": "arm", "armv6l": "arm", "armv7l": "arm",
		"loongarch64": "loong64",
	}
)

// Parse reads the answer between the markers; what stands before and after it is skipped.
// The fault's kind is Environment; it quotes what came instead of an answer.
func Parse(marker string, out []byte) (Facts, error) {
	out = bytes.ReplaceAll(out, []byte("\r\n"), []byte("\n")) // a login shell may have made a terminal of it
	begin, end := []byte("\n"+marker+" BEGIN\n"), []byte("\n"+marker+" END\n")
	// The newline before the marker is ours: noise does not always end its lines.
	_, answer, ok := bytes.Cut(append([]byte("\n"), out...), begin)
	if !ok {
		said := excerpt(out)
		if said == "" {
			return Facts{}, fault.New(fault.Environment, op, "the login shell printed nothing instead of an answer").
				WithRemedy("check that the user can run /bin/sh on the host (ForceCommand, nologin)")
		}
		return Facts{}, fault.New(fault.Environment, op, "the login shell printed %q instead of an answer", said).
			WithRemedy("check that the user can run /bin/sh on the host (ForceCommand, nologin)")
	}
	answer, _, ok = bytes.Cut(append([]byte("\n"), answer...), end)
	if !ok {
		tail := answer[max(0, len(answer)-200):]
		return Facts{}, fault.New(fault.Environment, op, "the answer breaks off after %q", excerpt(tail)).
			WithRemedy("see whether processes are killed on the host (memory, limits)")
	}
	facts := Facts{UID: -1, FreeBytes: -1}
	for line := range strings.Lines(string(answer)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return Facts{}, fault.New(fault.Environment, op, "the answer has the line %q", excerpt([]byte(line)))
		}
		if err := facts.set(key, value); err != nil {
			return Facts{}, fault.New(fault.Environment, op, "the answer has %s: %w", excerpt([]byte(key)), err)
		}
	}
	if err := facts.complete(); err != nil {
		return Facts{}, fault.Wrap(fault.Environment, op, err)
	}
	return facts, nil
}

// set takes one line of the answer. Unknown keys are skipped, so that the answer can grow.
func (f *Facts) set(key, value string) error {
	var err error
	switch key {
	case "os":
		f.OS = translate(systems, value)
	case "arch":
		f.Arch = translate(machines, value)
	case "kernel":
		f.Kernel = value
	case "boot_id":
		f.BootID = value
	case "uid":
		f.UID, err = number[int](value)
	case "user":
		f.User = value
	case "home":
		f.Home = value
	case "shell":
		f.Shell = value
	case "gzip":
		f.Tools.Gzip = value == "true"
	case "sha256":
		f.Tools.SHA256 = value
	case "base":
		f.Base, err = value, ValidPath(value)
	case "base_exists":
		f.BaseExists = value == "true"
	case "free_kib":
		var kib int64
		if kib, err = number[int64](value); err == nil {
			f.FreeBytes = kib << 10
		}
	case "rejected":
		dir, reason, ok := strings.Cut(value, "\t")
		if !ok {
			return errors.New("no reason")
		}
		f.Rejected = append(f.Rejected, Rejected{Dir: dir, Reason: reason})
	case "cached":
		if !cacheEntry.MatchString(value) {
			return fmt.Errorf("%q", excerpt([]byte(value)))
		}
		f.Cached = append(f.Cached, value)
	case "session":
		var s Session
		if s, err = parseSession(value); err == nil {
			f.Sessions = append(f.Sessions, s)
		}
	}
	return err
}

var cacheEntry = regexp.MustCompile(`^[0-9a-f]{64}/[A-Za-z0-9_+][A-Za-z0-9._+-]*$`)

func parseSession(value string) (Session, error) {
	words := strings.Split(value, " ")
	if len(words) != 3 {
		return Session{}, fmt.Errorf("%d words", len(words))
	}
	s := Session{Base: words[1], Dir: words[2]}
	if err := s.State.UnmarshalText([]byte(words[0])); err != nil {
		return Session{}, err
	}
	if err := errors.Join(ValidPath(s.Base), ValidPath(s.Dir)); err != nil {
		return Session{}, err
	}
	if !strings.HasPrefix(s.Dir, s.Base+"/") {
		return Session{}, fmt.Errorf("%s is not below %s", s.Dir, s.Base)
	}
	return s, nil
}

func translate(words map[string]string, word string) string {
	word = strings.ToLower(word)
	if known, ok := words[word]; ok {
		return known
	}
	return word
}

// number parses what can't be negative; a host that says otherwise is not believed.
func number[T int | int64](value string) (T, error) {
	n, err := strconv.ParseInt(value, 10, 53) // so that KiB can become bytes
	if err != nil {
		return 0, err
	}
	if n < 0 || int64(T(n)) != n {
		return 0, fmt.Errorf("%d is out of range", n)
	}
	return T(n), nil
}

// complete says what no host can do without.
func (f *Facts) complete() error {
	switch {
	case f.OS == "" || f.Arch == "":
		return errors.New("the answer does not name the system (is uname there?)")
	case f.UID < 0:
		return errors.New("the answer does not name the user ID")
	}
	return nil
}

// Format is the inverse of Parse: the answer that a host with these facts gives. Simulated hosts use it. Control characters in values
// are left out, as the script does.
func Format(marker string, f Facts) []byte {
	var b bytes.Buffer
	say := func(key, value string) {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			value = ""
		}
		fmt.Fprintf(&b, "%s=%s\n", key, value)
	}
	fmt.Fprintf(&b, "\n%s BEGIN\n", marker)
	say("os", f.OS)
	say("kernel", f.Kernel)
	say("arch", f.Arch)
	say("boot_id", f.BootID)
	say("uid", strconv.Itoa(f.UID))
	say("user", f.User)
	say("home", f.Home)
	say("shell", f.Shell)
	if f.Tools.Gzip {
		say("gzip", "true")
	}
	if f.Tools.SHA256 != "" {
		say("sha256", f.Tools.SHA256)
	}
	for _, s := range f.Sessions {
		say("session", s.State.String()+" "+s.Base+" "+s.Dir)
	}
	for _, r := range f.Rejected {
		fmt.Fprintf(&b, "rejected=%s\t%s\n", r.Dir, r.Reason)
	}
	if f.Base != "" {
		say("base", f.Base)
		say("base_exists", strconv.FormatBool(f.BaseExists))
	}
	for _, c := range f.Cached {
		say("cached", c)
	}
	if f.FreeBytes >= 0 {
		say("free_kib", strconv.FormatInt(f.FreeBytes>>10, 10))
	}
	fmt.Fprintf(&b, "%s END\n", marker)
	return b.Bytes()
}
