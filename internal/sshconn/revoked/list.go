package revoked

import (
	"bytes"
	"cmp"
	"crypto/sha1" // one of the fingerprints that lists have
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// List is what a file revokes. It does not change, and can be used by several goroutines.
type List struct {
	keys   map[string]int // plain keys as they are on the wire: the line, 0 in binary lists
	sha1   map[[sha1.Size]byte]struct{}
	sha256 map[[sha256.Size]byte]struct{}
	certs  map[string]*certificates // by the key of who signed them; "" = whoever did
}

// certificates are revoked ones of one authority.
type certificates struct {
	ids     map[string]struct{}
	serials []span // sorted by lo
}

// span are serial numbers from lo to hi.
type span struct {
	lo, hi uint64
	bits   []byte // big endian; bit n is lo+n. nil = all
	reach  uint64 // the highest hi of this and all before it
}

func newList() *List {
	return &List{
		keys: map[string]int{}, sha1: map[[sha1.Size]byte]struct{}{}, sha256: map[[sha256.Size]byte]struct{}{},
		certs: map[string]*certificates{},
	}
}

// Parse reads the content of a file.
func Parse(data []byte) (*List, error) {
	if bytes.HasPrefix(data, []byte(magic)) {
		return parseBinary(data[len(magic):])
	}
	return parseLines(string(data))
}

// parseLines reads public keys as authorized_keys has them, without options. What follows a key is a comment.
func parseLines(text string) (*List, error) {
	list := newList()
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		key, err := parseKey(words)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		blob := string(plain(key).Marshal())
		if _, known := list.keys[blob]; !known {
			list.keys[blob] = number
		}
	}
	return list, nil
}

func parseKey(words []string) (ssh.PublicKey, error) {
	if len(words) == 1 {
		return nil, fmt.Errorf("%q is no public key", words[0])
	}
	blob, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil {
		return nil, fmt.Errorf("this is no public key: %w", err)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("this is no public key: %w", err)
	}
	if key.Type() != words[0] {
		return nil, fmt.Errorf("the key is of type %s, not %s", key.Type(), words[0])
	}
	return key, nil
}

// plain is a key without its certificate.
func plain(key ssh.PublicKey) ssh.PublicKey {
	if cert, is := key.(*ssh.Certificate); is {
		return cert.Key
	}
	return key
}

// Revokes says by what a key or certificate is revoked, in words; "" = it is not. A certificate is where its key is, or the key
// that signed it.
func (l *List) Revokes(key ssh.PublicKey) string {
	if why := l.key(plain(key)); why != "" {
		return why
	}
	cert, is := key.(*ssh.Certificate)
	if !is {
		return ""
	}
	signer := plain(cert.SignatureKey)
	if why := l.key(signer); why != "" {
		return fmt.Sprintf("its authority %s is, %s", ssh.FingerprintSHA256(signer), why)
	}
	for _, authority := range []string{string(signer.Marshal()), ""} {
		if c := l.certs[authority]; c != nil {
			if why := c.revoke(cert); why != "" {
				return why
			}
		}
	}
	return ""
}

func (l *List) key(key ssh.PublicKey) string {
	blob := key.Marshal()
	if line, is := l.keys[string(blob)]; is {
		if line > 0 {
			return fmt.Sprintf("in line %d", line)
		}
		return "by its key"
	}
	if _, is := l.sha256[sha256.Sum256(blob)]; is {
		return "by its SHA256 fingerprint"
	}
	if _, is := l.sha1[sha1.Sum(blob)]; is { //nolint:gosec // it is what the file has
		return "by its SHA1 fingerprint"
	}
	return ""
}

func (c *certificates) revoke(cert *ssh.Certificate) string {
	if _, is := c.ids[cert.KeyId]; is {
		return fmt.Sprintf("by the certificate's ID %q", cert.KeyId)
	}
	if cert.Serial != 0 && c.has(cert.Serial) { // 0 is a certificate without number
		return fmt.Sprintf("by the certificate's serial number %d", cert.Serial)
	}
	return ""
}

// sort is called once, before has.
func (c *certificates) sort() {
	slices.SortFunc(c.serials, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	reach := uint64(0)
	for i := range c.serials {
		reach = max(reach, c.serials[i].hi)
		c.serials[i].reach = reach
	}
}

func (c *certificates) has(serial uint64) bool {
	after, _ := slices.BinarySearchFunc(c.serials, serial, func(s span, serial uint64) int {
		if s.lo <= serial {
			return -1
		}
		return 1
	})
	for i := after - 1; i >= 0 && c.serials[i].reach >= serial; i-- {
		if c.serials[i].has(serial) {
			return true
		}
	}
	return false
}

func (s span) has(serial uint64) bool {
	if serial < s.lo || serial > s.hi {
		return false
	}
	n := serial - s.lo
	return s.bits == nil || s.bits[uint64(len(s.bits))-1-n/8]>>(n%8)&1 == 1
}
