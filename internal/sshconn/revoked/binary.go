package revoked

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/ssh"
)

// magic begins a key revocation list.
const magic = "SSHKRL\n\x00"

// Sections of a list, and of one about certificates.
const (
	sectionCertificates = 1
	sectionKeys         = 2
	sectionSHA1         = 3
	sectionSignature    = 4
	sectionSHA256       = 5
	sectionExtension    = 255

	certSerials   = 0x20
	certRange     = 0x21
	certBitmap    = 0x22
	certIDs       = 0x23
	certExtension = 0x39
)

var errShort = errors.New("the key revocation list ends too early, or is damaged")

// readString reads what has its length in front, as RFC 4251 has it.
func readString(s, to *cryptobyte.String) bool {
	var n uint32
	return s.ReadUint32(&n) && s.ReadBytes((*[]byte)(to), int(n))
}

// parseBinary reads what follows the magic.
func parseBinary(data []byte) (*List, error) {
	s := cryptobyte.String(data)
	var version uint32
	var number, date, flags uint64
	var reserved, comment cryptobyte.String
	if !s.ReadUint32(&version) {
		return nil, errShort
	}
	if version != 1 {
		return nil, fmt.Errorf("the key revocation list has version %d of the format, only 1 is known here", version)
	}
	if !s.ReadUint64(&number) || !s.ReadUint64(&date) || !s.ReadUint64(&flags) || !readString(&s, &reserved) || !readString(&s, &comment) {
		return nil, errShort
	}
	list := newList()
	for !s.Empty() {
		var kind uint8
		var body cryptobyte.String
		if !s.ReadUint8(&kind) || !readString(&s, &body) {
			return nil, errShort
		}
		if err := list.section(kind, body); err != nil {
			return nil, err
		}
	}
	for _, c := range list.certs {
		c.sort()
	}
	return list, nil
}

func (l *List) section(kind uint8, body cryptobyte.String) error {
	switch kind {
	case sectionCertificates:
		return l.certificates(body)
	case sectionExtension:
		return extension(body)
	case sectionSignature: // no program makes it, and OpenSSH has given it up
		return errors.New("signed key revocation lists are not supported")
	case sectionKeys, sectionSHA1, sectionSHA256:
	default:
		return fmt.Errorf("the key revocation list has a section of unknown type %d", kind)
	}
	for !body.Empty() {
		var entry cryptobyte.String
		if !readString(&body, &entry) {
			return errShort
		}
		switch {
		case kind == sectionKeys:
			l.keys[string(entry)] = 0
		case kind == sectionSHA1 && len(entry) == 20:
			l.sha1[[20]byte(entry)] = struct{}{}
		case kind == sectionSHA256 && len(entry) == 32:
			l.sha256[[32]byte(entry)] = struct{}{}
		default:
			return errShort
		}
	}
	return nil
}

// extension lets pass what may be passed over.
func extension(body cryptobyte.String) error {
	var name, content cryptobyte.String
	var critical uint8
	if !readString(&body, &name) || !body.ReadUint8(&critical) || !readString(&body, &content) || !body.Empty() {
		return errShort
	}
	if critical != 0 {
		return fmt.Errorf("the key revocation list needs the extension %q, which is not known here", name)
	}
	return nil
}

func (l *List) certificates(body cryptobyte.String) error {
	var authority, reserved cryptobyte.String
	if !readString(&body, &authority) || !readString(&body, &reserved) {
		return errShort
	}
	if len(authority) > 0 {
		key, err := ssh.ParsePublicKey(authority)
		if err != nil {
			return fmt.Errorf("the key revocation list is about the certificates of a key that can't be read: %w", err)
		}
		authority = plain(key).Marshal()
	}
	c := l.certs[string(authority)]
	if c == nil {
		c = &certificates{ids: map[string]struct{}{}}
		l.certs[string(authority)] = c
	}
	for !body.Empty() {
		var kind uint8
		var part cryptobyte.String
		if !body.ReadUint8(&kind) || !readString(&body, &part) {
			return errShort
		}
		if err := c.section(kind, part); err != nil {
			return err
		}
	}
	return nil
}

func (c *certificates) section(kind uint8, body cryptobyte.String) error {
	switch kind {
	case certSerials:
		for !body.Empty() {
			var serial uint64
			if !body.ReadUint64(&serial) || !c.add(serial, serial, nil) {
				return errShort
			}
		}
	case certRange:
		var lo, hi uint64
		if !body.ReadUint64(&lo) || !body.ReadUint64(&hi) || !body.Empty() || !c.add(lo, hi, nil) {
			return errShort
		}
	case certBitmap:
		var lo uint64
		var set cryptobyte.String
		if !body.ReadUint64(&lo) || !readString(&body, &set) || !body.Empty() || !c.bitmap(lo, set) {
			return errShort
		}
	case certIDs:
		for !body.Empty() {
			var id cryptobyte.String
			if !readString(&body, &id) {
				return errShort
			}
			c.ids[string(id)] = struct{}{}
		}
	case certExtension:
		return extension(body)
	default:
		return fmt.Errorf("the key revocation list has a section of unknown type %d about certificates", kind)
	}
	return nil
}

// add reports whether these can be serial numbers.
func (c *certificates) add(lo, hi uint64, set []byte) bool {
	if lo == 0 && set == nil || lo > hi {
		return false
	}
	c.serials = append(c.serials, span{lo: lo, hi: hi, bits: set})
	return true
}

// bitmap takes a number of any size, of which each bit is a serial number.
func (c *certificates) bitmap(lo uint64, set []byte) bool {
	if len(set) > 0 && set[0] >= 0x80 { // negative
		return false
	}
	set = bytes.TrimLeft(set, "\x00")
	if len(set) == 0 {
		return true
	}
	last := uint64(len(set))*8 - uint64(bits.LeadingZeros8(set[0])) - 1
	if lo == 0 && set[len(set)-1]&1 == 1 { // no certificate has this number
		return false
	}
	return c.add(lo, lo+last, bytes.Clone(set)) // not to keep the whole file
}
