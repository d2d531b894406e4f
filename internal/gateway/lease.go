package gateway

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// leaseSerialBits is how many bits of a lease ID count the leases of one host. The 47 bits above carry the host's
// number; etcd wants IDs to be positive.
const leaseSerialBits = 16

// leaseSpace is a host's number, the upper bits of the IDs of all its leases. It follows from the names of run and
// host, so that after a restart of the initiator a payload's leases are still its own. With 47 bits the chance that
// any two of 10,000 hosts meet is about one in three million; newLeaseSpace's salt is for that case.
type leaseSpace uint64

func newLeaseSpace(run, host string, salt int) leaseSpace {
	sum := sha256.Sum256([]byte(run + "\x00" + host + "\x00" + strconv.Itoa(salt)))
	n := binary.BigEndian.Uint64(sum[:8]) >> (leaseSerialBits + 1)
	return leaseSpace(max(n, 1)) // number 0 would own the ID 0, "no lease"
}

func (s leaseSpace) owns(id int64) bool {
	return id > 0 && uint64(id)>>leaseSerialBits == uint64(s)
}

// pick returns one of the host's IDs at random. It may be in use: etcd then says so and the next one is tried.
func (s leaseSpace) pick() int64 {
	return int64(uint64(s)<<leaseSerialBits | uint64(rand.N(uint32(1)<<leaseSerialBits))) //nolint:gosec // no secret: a lease is guarded by its owner
}

// leaseBook counts the leases of a host that live, as far as this gateway has seen: it knows those that were granted
// or kept alive through it.
type leaseBook struct {
	mu    sync.Mutex
	until map[int64]time.Time
}

// add notes that a lease lives for ttl from now on, unless there are already most others.
func (b *leaseBook) add(id int64, ttl time.Duration, most int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if len(b.until) >= most {
		for id, end := range b.until {
			if end.Before(now) {
				delete(b.until, id)
			}
		}
	}
	if _, known := b.until[id]; !known && len(b.until) >= most {
		return false
	}
	if b.until == nil {
		b.until = map[int64]time.Time{}
	}
	b.until[id] = now.Add(ttl)
	return true
}

func (b *leaseBook) drop(id int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.until, id)
}

func (b *leaseBook) count() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, end := range b.until {
		if !end.Before(now) {
			n++
		}
	}
	return n
}

// seconds makes a duration of an etcd TTL, without overflow.
func seconds(ttl int64) time.Duration {
	const most = int64(1 << 32)
	return time.Duration(max(0, min(ttl, most))) * time.Second
}
