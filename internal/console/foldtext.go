package console

import (
	"crypto/sha256"
	"hash"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// spoken is what a host's payload has written up to now.
type spoken struct {
	stdout, stderr heard
	next           uint64 // offset of what comes next; what is before it was taken
	missing        bool   // some was never seen: it was dropped, or told to another initiator
}

// add takes output, and keeps of it what fits: the host may have limit bytes in memory, and all hosts together room more. It
// returns how many bytes it kept.
func (s *spoken) add(e messages.OutputReceived, limit, room int) (kept int) {
	data := e.Data
	if e.Offset > s.next {
		s.missing = true
	}
	if e.Offset < s.next { // told again after the initiator was killed
		data = data[min(s.next-e.Offset, uint64(len(data))):]
	}
	s.next = max(s.next, e.Offset+uint64(len(e.Data)))
	to := &s.stdout
	if e.Stderr {
		to = &s.stderr
	}
	before := len(to.head)
	to.add(data, max(0, min(limit-s.size(), room)))
	return len(to.head) - before
}

// size is how many bytes are kept.
func (s *spoken) size() int { return len(s.stdout.head) + len(s.stderr.head) }

// cut reports whether not all is kept.
func (s *spoken) cut() bool { return s.stdout.cut() > 0 || s.stderr.cut() > 0 }

// digest identifies a text, of which nobody knows another with the same.
type digest [sha256.Size]byte

// heard is one stream of a host: its beginning, and enough of the rest to compare it.
type heard struct {
	head []byte
	size int64
	sum  hash.Hash // of everything, once that is more than head
	last byte
}

func (h *heard) add(data []byte, room int) {
	if len(data) == 0 {
		return
	}
	h.size += int64(len(data))
	h.last = data[len(data)-1]
	if h.sum == nil {
		keep := min(room, len(data))
		h.head = append(h.head, data[:keep]...)
		if keep == len(data) {
			return
		}
		data = data[keep:]
		h.sum = sha256.New()
		h.sum.Write(h.head)
	}
	h.sum.Write(data)
}

// cut is how many bytes were not kept.
func (h *heard) cut() int64 { return h.size - int64(len(h.head)) }

// digest is that of the whole text, in which a last line without an end is a line as any other.
func (h *heard) digest() (d digest) {
	if h.size == 0 {
		return d
	}
	sum := h.sum
	if sum == nil {
		sum = sha256.New()
		sum.Write(h.head)
	}
	if h.last != '\n' {
		sum.Write([]byte{'\n'})
	}
	return digest(sum.Sum(nil))
}
