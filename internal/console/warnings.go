package console

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Warning is what hosts warned of, and all that did.
type Warning struct {
	Text  string   `json:"text"`  // for people; what differs from host to host in it is "…"
	Nodes string   `json:"nodes"` // the hosts as a node set
	Hosts []string `json:"hosts"`
}

// maxWarnings bounds how many different warnings are kept. There are few texts; names and numbers in them make no difference.
const maxWarnings = 200

// warnings are grouped as failures are. The zero value is empty.
type warnings map[string]*warned

type warned struct {
	pieces []string
	hosts  map[string]bool
}

func (w *warnings) add(e messages.HostWarned) {
	if *w == nil {
		*w = warnings{}
	}
	pieces := dissect(e.Text, e.Host)
	key := skeleton(pieces)
	group := (*w)[key]
	switch {
	case group == nil && len(*w) < maxWarnings:
		(*w)[key] = &warned{pieces, map[string]bool{e.Host: true}}
	case group != nil:
		merge(group.pieces, pieces)
		group.hosts[e.Host] = true
	}
}

// all returns the warnings, the most frequent first.
func (w warnings) all() []Warning {
	list := make([]Warning, 0, len(w))
	for _, group := range w {
		hosts := slices.SortedFunc(maps.Keys(group.hosts), nodeset.Compare)
		list = append(list, Warning{strings.Join(group.pieces, ""), nodeset.Fold(hosts), hosts})
	}
	slices.SortFunc(list, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(len(b.Hosts), len(a.Hosts)), cmp.Compare(a.Text, b.Text))
	})
	return list
}
