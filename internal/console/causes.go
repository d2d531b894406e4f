package console

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Failure is one thing that went wrong, and all hosts where it did.
type Failure struct {
	Outcome    messages.Outcome `json:"outcome"`
	Step       string           `json:"step,omitempty"`  // or what else was attempted; empty: nothing of ours failed
	Kind       fault.Kind       `json:"kind,omitempty"`  // of the fault, where it is known
	Cause      string           `json:"cause,omitempty"` // for people; what differs from host to host in it is "…"
	Remedy     string           `json:"remedy,omitempty"`
	LeftBehind string           `json:"left_behind,omitempty"`
	Exit       *messages.Exit   `json:"exit,omitempty"`
	Nodes      string           `json:"nodes"` // the hosts as a node set
	Hosts      []string         `json:"hosts"`
}

// Text is the step and the cause in one line; empty where there is neither.
func (f Failure) Text() string {
	if f.Step == "" {
		return Visible(f.Cause)
	}
	return f.Step + ": " + Visible(f.Cause)
}

// elided stands for what differs from host to host.
const elided = "…"

// GroupFailures groups what went wrong, the most frequent first and what was only left undone last. kinds has what is known beside the results, by host.
func GroupFailures(results []messages.Result, kinds map[string]fault.Kind) []Failure {
	type group struct {
		Failure
		cause, remedy []string
	}
	groups := map[string]*group{}
	for _, r := range results {
		if r.Outcome == messages.OutcomeSucceeded && r.LeftBehind == "" {
			continue
		}
		f := failureOf(r, kinds[r.Host])
		cause, remedy := dissect(f.Cause, r.Host), dissect(f.Remedy, r.Host)
		parts := append([]string{f.Outcome.String(), f.Step, f.LeftBehind}, skeleton(cause), skeleton(remedy))
		if f.Exit != nil {
			parts = append(parts, exitText(*f.Exit))
		}
		key := strings.Join(parts, "\x00")
		g := groups[key]
		if g == nil {
			groups[key] = &group{f, cause, remedy}
			continue
		}
		g.Hosts = append(g.Hosts, r.Host)
		g.Kind = cmp.Or(g.Kind, f.Kind) // those that were done before we looked have none
		merge(g.cause, cause)
		merge(g.remedy, remedy)
	}
	all := make([]Failure, 0, len(groups))
	for _, g := range groups {
		slices.SortFunc(g.Hosts, nodeset.Compare)
		g.Nodes = nodeset.Fold(g.Hosts)
		g.Cause, g.Remedy = strings.Join(g.cause, ""), strings.Join(g.remedy, "")
		all = append(all, g.Failure)
	}
	slices.SortFunc(all, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(asked(a.Outcome), asked(b.Outcome)), cmp.Compare(len(b.Hosts), len(a.Hosts)), nodeset.Compare(a.Hosts[0], b.Hosts[0]))
	})
	return all
}

// asked is 1 where nothing of the host's own went wrong: somebody stopped it, or others failed.
func asked(o messages.Outcome) int {
	if o == messages.OutcomeCanceled || o == messages.OutcomeSkipped {
		return 1
	}
	return 0
}

// failureOf is what went wrong on one host.
func failureOf(r messages.Result, known fault.Kind) Failure {
	f := Failure{
		Outcome: r.Outcome, Kind: known, Cause: r.Reason, Remedy: r.Remedy, LeftBehind: r.LeftBehind, Exit: r.Exit, Hosts: []string{r.Host},
	}
	if r.Fault != nil {
		f.Kind = r.Fault.Kind
	}
	for step := messages.StepConnect; step <= messages.StepDisconnect; step++ {
		if rest, ok := strings.CutPrefix(r.Reason, step.String()+": "); ok {
			f.Step, f.Cause = step.String(), rest
		}
	}
	if f.Cause == "" && r.Exit != nil {
		f.Cause = r.Exit.Error
	}
	return f
}

// variable is what a word that may differ from host to host looks like: it has a digit. Punctuation around it is not part of it.
var variable = regexp.MustCompile(`[\w./:@+=%\[\]-]*\d[\w./:@+=%\[\]-]*`)

// dissect cuts a text so that the pieces with odd numbers are those that may differ from host to host.
func dissect(text, host string) []string {
	var pieces []string
	fixed := 0
	for _, at := range words(text, host) {
		pieces = append(pieces, text[fixed:at[0]], text[at[0]:at[1]])
		fixed = at[1]
	}
	return append(pieces, text[fixed:])
}

// words finds what may differ: words with digits, and those that name the host.
func words(text, host string) [][]int {
	found := variable.FindAllStringIndex(text, -1)
	if host == "" || strings.ContainsAny(host, "0123456789") { // then its words have digits
		return trimmed(text, found)
	}
	named := regexp.MustCompile(`[\w./:@+=%\[\]-]*\b`+regexp.QuoteMeta(host)+`\b[\w./:@+=%\[\]-]*`).FindAllStringIndex(text, -1)
	all := append(found, named...)
	slices.SortFunc(all, func(a, b []int) int { return cmp.Compare(a[0], b[0]) })
	return trimmed(text, slices.CompactFunc(all, func(a, b []int) bool { return a[0] == b[0] }))
}

// trimmed takes punctuation at the ends off.
func trimmed(text string, found [][]int) [][]int {
	for _, at := range found {
		word := text[at[0]:at[1]]
		at[1] -= len(word) - len(strings.TrimRight(word, ".:"))
	}
	return found
}

// skeleton is what hosts with the same trouble have in common.
func skeleton(pieces []string) string {
	var b strings.Builder
	for i := 0; i < len(pieces); i += 2 {
		b.WriteString(pieces[i] + "\x01")
	}
	return b.String()
}

// merge elides the variable pieces that are not the same in both.
func merge(into, other []string) {
	for i := 1; i < len(into); i += 2 {
		if into[i] != other[i] {
			into[i] = elided
		}
	}
}
