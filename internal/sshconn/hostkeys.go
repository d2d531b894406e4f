package sshconn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn/revoked"
)

// HostKeyPolicy says what happens with a host whose key is not known.
type HostKeyPolicy uint8

// The policies; changed and revoked keys are refused by all but the last.
const (
	Strict    HostKeyPolicy = iota // refuse unknown hosts
	AcceptNew                      // remember the key at the first contact
	Ask                            // ask a person about the keys of unknown hosts; where nobody is there, refuse
	Insecure                       // take any key that is not in a file of revoked ones; whoever chooses it warns the user
)

var policyNames = [...]string{Strict: "strict", AcceptNew: "accept-new", Ask: "ask", Insecure: "insecure"}

// String returns the word that --host-key takes.
func (p HostKeyPolicy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy(%d)", uint8(p))
}

// ParseHostKeyPolicy reads the word that --host-key takes.
func ParseHostKeyPolicy(word string) (HostKeyPolicy, error) {
	i := slices.Index(policyNames[:], word)
	if i < 0 {
		return 0, fmt.Errorf("host key policy %q is none of %s", word, strings.Join(policyNames[:], ", "))
	}
	return HostKeyPolicy(i), nil
}

// HostKeyOptions say which keys are trusted.
type HostKeyOptions struct {
	Policy HostKeyPolicy
	// Files in OpenSSH's known_hosts format; those that don't exist are skipped. AcceptNew writes to the first. nil means
	// ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
	Files []string
	// Confirm asks a person; nil means that nobody is there.
	Confirm Confirmer
}

// HostKeys checks host keys against known_hosts files: plain, wildcard and hashed names, [host]:port, @revoked and
// @cert-authority. It is safe for concurrent use, and the only writer of the files in this process. A file that changed is read again
// before a host is refused.
type HostKeys struct {
	policy    HostKeyPolicy
	files     []string
	target    string        // the file that new keys are written to; "" = none
	confirm   Confirmer     // nil = nobody
	questions *keyQuestions // shared by all sets, as is revoked
	revoked   *revoked.Files
	commands  *keyCommands

	setsMu sync.Mutex
	sets   map[string]*HostKeys // of hosts with files of their own

	mu     sync.RWMutex
	db     *knownhosts.HostKeyDB
	plain  map[string][]ssh.PublicKey      // by the exact name in the file, so that thousands of hosts don't each scan thousands of lines
	denied map[string]xknownhosts.KnownKey // revoked keys
	states []fileState                     // of files, when they were read
	wrote  map[string]struct{}             // names remembered since then, which db doesn't know
}

type fileState struct {
	info fs.FileInfo // nil: not there
}

func (s fileState) same(info fs.FileInfo) bool {
	if s.info == nil || info == nil {
		return s.info == nil && info == nil
	}
	return s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime()) && os.SameFile(s.info, info)
}

// NewHostKeys reads the files. A line that can't be parsed is an error that names file and line.
func NewHostKeys(opts HostKeyOptions) (*HostKeys, error) {
	h := &HostKeys{policy: opts.Policy, files: opts.Files, confirm: opts.Confirm, questions: &keyQuestions{}, revoked: &revoked.Files{}, commands: newKeyCommands()}
	if h.policy == Insecure {
		return h, nil
	}
	if h.files == nil {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fault.Wrap(fault.Untrusted, "find known_hosts", err)
		}
		h.files = []string{filepath.Join(home, ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"}
	}
	if len(h.files) > 0 {
		h.target = h.files[0]
	} else if h.policy == AcceptNew {
		return nil, fault.New(fault.Untrusted, "read known_hosts", "accept-new needs a file to write to")
	}
	if err := h.load(); err != nil {
		return nil, fault.Wrap(fault.Untrusted, "read known_hosts", err)
	}
	return h, nil
}

// load is called with mu held, or before anybody else knows h.
func (h *HostKeys) load() error {
	var present []string
	states := make([]fileState, len(h.files))
	plain, denied := map[string][]ssh.PublicKey{}, map[string]xknownhosts.KnownKey{}
	for i, name := range h.files {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		states[i] = fileState{info}
		present = append(present, name)
		if err := indexFile(name, plain, denied); err != nil {
			return err
		}
	}
	db, err := knownhosts.NewDB(present...)
	if err != nil {
		return err
	}
	h.db, h.plain, h.denied, h.states, h.wrote = db, plain, denied, states, map[string]struct{}{}
	return nil
}

// indexFile collects the lines without marker, hash, wildcard and negation. Lines that it can't read are left to the
// library, which reports them.
func indexFile(name string, plain map[string][]ssh.PublicKey, denied map[string]xknownhosts.KnownKey) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		marker, hosts, key, _, _, err := ssh.ParseKnownHosts(lines.Bytes())
		switch {
		case err != nil:
		case marker == "revoked":
			denied[string(key.Marshal())] = xknownhosts.KnownKey{Key: key, Filename: name, Line: number}
		case marker == "" && !strings.ContainsAny(strings.Join(hosts, ""), "*?!|"):
			for _, host := range hosts {
				plain[host] = append(plain[host], key)
			}
		}
	}
	return lines.Err()
}

// changed reports whether a file is another one than when it was read.
func (h *HostKeys) changed() bool {
	for i, name := range h.files {
		info, err := os.Stat(name)
		if err != nil {
			info = nil
		}
		if !h.states[i].same(info) {
			return true
		}
	}
	return false
}

// preferred is what we ask of a host that we know nothing about: what OpenSSH prefers, the cheapest to verify first.
var preferred = func() []string {
	first := []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	for _, a := range ssh.SupportedAlgorithms().HostKeys {
		if !slices.Contains(first, a) && !strings.Contains(a, "-cert-") {
			first = append(first, a)
		}
	}
	return first
}()

// algorithms returns what to negotiate with a host: the types of the keys we know first, or a host with several keys would show
// one that we don't know. The others follow, so that a host that gave up a key type is reported as changed.
func (h *HostKeys) algorithms(host inventory.Host, more *HostKeys) []string {
	if h.policyFor(host) == Insecure {
		return withCertificates(host, preferred)
	}
	address := keyAddress(host)
	h.mu.RLock()
	defer h.mu.RUnlock()
	known := h.known(address)
	if more != nil {
		known = slices.Concat(known, more.known(address))
	}
	supported := ssh.SupportedAlgorithms().HostKeys // SHA-1 signatures (ssh-rsa) are not among them
	var list []string
	for _, a := range append(known, preferred...) {
		if slices.Contains(supported, a) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return withCertificates(host, list)
}

// known are the algorithms of the keys that are known of a host. It is called with mu held.
func (h *HostKeys) known(address string) (list []string) {
	keys := h.plain[knownhosts.Normalize(address)]
	if len(keys) == 0 {
		return h.db.HostKeyAlgorithms(address)
	}
	for _, key := range keys {
		if key.Type() == ssh.KeyAlgoRSA {
			list = append(list, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256) // RFC 8332: algorithms of the same key format
			continue
		}
		list = append(list, key.Type())
	}
	return list
}

// check is an ssh.HostKeyCallback for a host, of which more may be known. errAskPerson says that a person is to be asked.
func (h *HostKeys) check(host inventory.Host, remote net.Addr, key ssh.PublicKey, more *HostKeys) error {
	if err := h.refuseRevoked(host, key); err != nil {
		return err
	}
	policy := h.policyFor(host)
	if policy == Insecure {
		return nil
	}
	address := keyAddress(host)
	h.mu.RLock()
	err := h.lookInBoth(more, address, remote, key)
	h.mu.RUnlock()
	if err == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// A host that we remembered and that now shows another key has changed, so db must know it before it judges.
	if _, ours := h.wrote[knownhosts.Normalize(address)]; ours || h.changed() {
		if err := h.load(); err != nil {
			return fault.Wrap(fault.Untrusted, "read known_hosts", err)
		}
	}
	if err = h.lookInBoth(more, address, remote, key); err == nil {
		return nil
	}
	key = plainKey(key)
	if knownhosts.IsHostUnknown(err) {
		switch {
		case policy == AcceptNew:
			return h.remember(host, key)
		case policy == Ask && h.confirm != nil:
			return errAskPerson
		}
	}
	return untrusted(host, key, err)
}

var errAskPerson = errors.New("a person is to be asked")

// trust remembers a key that a person trusts, unless it has become known meanwhile.
func (h *HostKeys) trust(host inventory.Host, key ssh.PublicKey) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.look(keyAddress(host), hopAddr(""), key) == nil {
		return nil
	}
	return h.remember(host, key)
}

// look is called with mu held. What does not count as a certificate may be known as a key, as to OpenSSH.
func (h *HostKeys) look(address string, remote net.Addr, key ssh.PublicKey) error {
	cert, is := key.(*ssh.Certificate)
	if !is {
		return h.lookUp(address, remote, key)
	}
	if k, revoked := h.denied[string(cert.SignatureKey.Marshal())]; revoked {
		return &xknownhosts.RevokedError{Revoked: k}
	}
	err := h.lookUp(address, remote, cert)
	if err == nil {
		return nil
	}
	plain := h.lookUp(address, remote, cert.Key)
	var no *xknownhosts.KeyError
	if errors.As(plain, &no) && len(no.Want) > 0 && !slices.ContainsFunc(h.db.HostKeys(address), func(k knownhosts.PublicKey) bool { return !k.Cert }) {
		return err // only authorities are known, so that this says what is wrong
	}
	return plain
}

func (h *HostKeys) lookUp(address string, remote net.Addr, key ssh.PublicKey) error {
	if _, isCert := key.(*ssh.Certificate); !isCert {
		blob := key.Marshal()
		_, revoked := h.denied[string(blob)]
		if !revoked && slices.ContainsFunc(h.plain[knownhosts.Normalize(address)], func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), blob) }) {
			return nil
		}
	}
	// The address alone decides; bufconn and other transports without IP address would be an error to the library.
	if _, _, err := net.SplitHostPort(remote.String()); err != nil {
		remote = &net.TCPAddr{IP: net.IPv4zero}
	}
	return h.db.HostKeyCallback()(address, remote, key)
}

// remember appends one line. It is called with mu held and after the files were found not to know the host.
func (h *HostKeys) remember(host inventory.Host, key ssh.PublicKey) error {
	name, written := keyNames(host)
	if h.target != "" {
		if err := appendLine(h.target, knownhosts.Line([]string{written}, key)); err != nil {
			return fault.Wrap(fault.Environment, "remember the host key", err).
				WithRemedy("make %s writable, or add the key there and use --host-key=strict", h.target)
		}
	}
	h.plain[name] = append(h.plain[name], key)
	h.wrote[name] = struct{}{}
	// What we wrote ourselves is no reason to read it all again.
	if info, err := os.Stat(h.target); err == nil {
		h.states[0] = fileState{info}
	}
	return nil
}

// appendLine writes with one write call in append mode, so that several processes don't mix their lines.
func appendLine(name, line string) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size > 0 { // a file without final newline would take our line as part of its last one
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line + "\n")
	return err
}
