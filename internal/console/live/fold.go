package live

import (
	"slices"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Folding names and grouping failures cost more than all the rest of the view where hosts are many. They are done again only where
// something changed, and where hosts are many not more often than this.
const (
	foldEvery = time.Second
	many      = 1000
)

// fold is the hosts of a place as node sets.
type fold struct {
	stale  bool
	at     time.Time
	pieces []string
}

// grouping says when failures were grouped.
type grouping struct {
	stale bool
	at    time.Time
}

func (s *state) due(stale bool, at, now time.Time) bool {
	return stale && (len(s.hosts) <= many || now.Sub(at) >= foldEvery)
}

// refold brings folded names and grouped failures up to date, where it is time for that.
func (s *state) refold(now time.Time) {
	var names [places][]string
	for p := range s.folds {
		if f := &s.folds[p]; s.due(f.stale, f.at, now) {
			names[p] = make([]string, 0, s.count[p])
			f.stale, f.at = false, now
		}
	}
	for _, h := range s.hosts {
		if names[h.place] != nil {
			names[h.place] = append(names[h.place], h.name)
		}
	}
	for p, list := range names {
		if list != nil {
			s.folds[p].pieces = nodeset.FoldList(list)
		}
	}
	if !s.due(s.grouped.stale, s.grouped.at, now) {
		return
	}
	s.grouped = grouping{at: now}
	var results []messages.Result
	for _, h := range s.hosts {
		if h.place == failed {
			results = append(results, *h.result)
		}
	}
	s.failures = console.GroupFailures(results, nil)
}

// slowest returns the hosts that are longest at a place where nothing should take long, the slowest first.
func (s *state) slowest(n int) []*host {
	var slow []*host
	for _, h := range s.hosts {
		if h.place == queued || h.place == running || h.place.over() {
			continue
		}
		i, _ := slices.BinarySearchFunc(slow, h, func(a, b *host) int { return a.since.Compare(b.since) })
		if i < n {
			slow = slices.Insert(slow, i, h)
			slow = slow[:min(n, len(slow))]
		}
	}
	return slow
}
