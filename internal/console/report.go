package console

import (
	"cmp"
	"slices"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Report is all there is to say about a run that is over: for people as WriteReport writes it, for programs as JSON, which
// docs/schema/report.schema.json describes. Fields are only ever added.
type Report struct {
	Run           string            `json:"run"`
	Began         time.Time         `json:"began"` // as this initiator saw it
	Took          time.Duration     `json:"took_ns"`
	Converged     bool              `json:"converged"`          // the run ended because the group did
	TimedOut      bool              `json:"timed_out"`          // the maximum run time was over first
	Exceeded      string            `json:"exceeded,omitempty"` // why hosts were skipped: more failed than the run tolerates
	Hosts         int               `json:"hosts"`
	Outcomes      map[string]int    `json:"outcomes"` // how many hosts have which
	Attempts      int               `json:"attempts"` // connections tried, by all hosts together
	BytesSent     int64             `json:"bytes_sent"`
	BytesSkipped  int64             `json:"bytes_skipped"`
	OutputBytes   int64             `json:"output_bytes"`
	OutputDropped int64             `json:"output_dropped_bytes"` // dropped on hosts, because nobody took it in time
	Steps         []StepTime        `json:"steps"`                // in their order; those that were never done are left out
	Waves         []WaveCount       `json:"waves,omitempty"`      // that are over; none where the run has no waves
	Failures      []Failure         `json:"failures"`             // the most frequent first
	Warnings      []Warning         `json:"warnings"`             // the same
	Results       []messages.Result `json:"results"`              // one for each host
}

// StepTime is how long one of the nine steps took on all hosts. Each time that it was done counts.
type StepTime struct {
	Step    messages.Step `json:"step"`
	Count   int           `json:"count"`
	P50     time.Duration `json:"p50_ns"` // half of all took no longer; to within a hundredth
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`
	Slowest string        `json:"slowest"` // the host that took longest
}

// WaveCount is how a wave of hosts went.
type WaveCount struct {
	Wave        int           `json:"wave"` // from 1
	Took        time.Duration `json:"took_ns"`
	Hosts       int           `json:"hosts"`
	Succeeded   int           `json:"succeeded"`
	Failed      int           `json:"failed"`
	Unreachable int           `json:"unreachable"`
	Canceled    int           `json:"canceled"`
}

// Collector makes a Report of a run's events. Its memory is bounded by the number of hosts. It is for one goroutine at
// a time.
type Collector struct {
	began   time.Time
	steps   [messages.StepDisconnect + 1]timing
	kinds   map[string]fault.Kind // why hosts were given up
	warned  warnings
	waves   []WaveCount
	output  int64
	dropped int64
	end     messages.RunFinished
}

// NewCollector returns one that knows nothing yet.
func NewCollector() *Collector { return &Collector{kinds: map[string]fault.Kind{}} }

// Note takes an event; those that a report says nothing of are left alone.
func (c *Collector) Note(event messages.Event) {
	switch e := event.(type) {
	case messages.RunStarted:
		c.began = e.At
	case messages.StepDone:
		if int(e.Step) < len(c.steps) {
			c.steps[e.Step].add(e.Host, e.Took)
		}
	case messages.HostTroubled:
		if !e.Retry {
			c.kinds[e.Host] = e.Kind
		}
	case messages.HostWarned:
		c.warned.add(e)
	case messages.OutputReceived:
		c.output += int64(len(e.Data))
	case messages.OutputDropped:
		c.dropped += dropped(e)
	case messages.WaveFinished:
		c.waves = append(c.waves, WaveCount{e.Wave, e.Took, e.Hosts, e.Succeeded, e.Failed, e.Unreachable, e.Canceled})
	case messages.RunFinished:
		c.end = e
	}
}

// Report returns what is known. It is complete once the run is over.
func (c *Collector) Report() Report {
	r := Report{
		Run: c.end.Run, Began: c.began, Took: c.end.Took, Converged: c.end.Converged, TimedOut: c.end.TimedOut, Exceeded: c.end.Exceeded,
		Hosts: len(c.end.Results), Outcomes: map[string]int{}, OutputBytes: c.output, OutputDropped: c.dropped,
		Steps: []StepTime{}, Waves: slices.Clone(c.waves), Failures: GroupFailures(c.end.Results, c.kinds), Warnings: c.warned.all(), Results: slices.Clone(c.end.Results),
	}
	slices.SortStableFunc(r.Results, func(a, b messages.Result) int { return nodeset.Compare(a.Host, b.Host) })
	for _, result := range r.Results {
		r.Outcomes[result.Outcome.String()]++
		r.Attempts += result.Attempts
		r.BytesSent += result.BytesSent
		r.BytesSkipped += result.BytesSkipped
	}
	for step := messages.StepConnect; step <= messages.StepDisconnect; step++ {
		if t := &c.steps[step]; t.count > 0 {
			r.Steps = append(r.Steps, StepTime{step, t.count, t.quantile(0.5), t.quantile(0.99), t.most, t.slowest})
		}
	}
	if r.Results == nil {
		r.Results = []messages.Result{}
	}
	return r
}

// byResult groups hosts by how they ended, the most frequent first.
func byResult(results []messages.Result) []resultGroup {
	groups := map[string]*resultGroup{}
	for _, r := range results {
		text := ResultText(r)
		g := groups[text]
		if g == nil {
			g = &resultGroup{text: text, outcome: r.Outcome}
			groups[text] = g
		}
		g.hosts = append(g.hosts, r.Host)
	}
	all := make([]resultGroup, 0, len(groups))
	for _, g := range groups {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b resultGroup) int {
		return cmp.Or(cmp.Compare(len(b.hosts), len(a.hosts)), cmp.Compare(a.text, b.text))
	})
	return all
}

type resultGroup struct {
	text    string
	outcome messages.Outcome
	hosts   []string
}
