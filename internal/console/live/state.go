package live

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// place is where a host is on its way.
type place uint8

// The places in the order in which they are shown. Those of the nine steps have the steps' numbers.
const (
	queued    place = 0
	connect         = place(messages.StepConnect)
	copying         = place(messages.StepCopy)
	running         = place(messages.StepRun)
	lastStep        = place(messages.StepDisconnect)
	retrying        = lastStep + 1
	succeeded       = lastStep + 2
	canceled        = lastStep + 3 // or never begun
	failed          = lastStep + 4
	places          = lastStep + 5
)

// String returns the place as the view calls it.
func (p place) String() string {
	switch p {
	case queued:
		return "queued"
	case retrying:
		return "waits to retry"
	case succeeded:
		return "ok"
	case canceled:
		return "not done"
	case failed:
		return "failed"
	}
	return messages.Step(p).String()
}

// placeOf are the states of a host's actor (docs/protocol.md) and where it is in them. In the others it waits for its turn.
var placeOf = map[string]place{
	"Waiting": retrying, "Connecting": connect, "Probing": connect, "MakingDirectory": place(messages.StepMakeDirectory),
	"AwaitingUpload": copying, "Copying": copying, "OpeningTunnel": place(messages.StepTunnel), "Starting": running, "Attaching": running,
	"Rejoining": running, "Running": running, "Finishing": place(messages.StepFinish), "ClosingTunnel": place(messages.StepCloseTunnel),
	"CleaningUp": place(messages.StepCleanUp), "Disconnecting": lastStep,
}

func (p place) over() bool { return p >= succeeded }

// The bounds of what is kept of a host, and of the run: the memory for many hosts follows from them.
const (
	maxTail    = 2 << 10 // bytes of output of a host
	maxPartial = 512     // bytes of a line that has not ended
	maxRecent  = 200     // lines of output of all hosts
	maxNotes   = 50      // messages
)

// host is what is known of one host.
type host struct {
	name   string
	place  place
	since  time.Time // it is there
	state  string    // of its actor
	epoch  uint64    // number of the connection
	pid    int
	quiet  bool
	sent   int64
	total  int64
	took   [lastStep + 1]time.Duration // by each step, the last time
	failed int                         // attempts that failed
	reason string                      // of the last one
	retry  time.Time                   // the next attempt
	result *messages.Result

	tail    []byte
	partial []byte // the line of the recent output that has not ended
}

// line is one line of output.
type line struct{ host, text string }

// state is what events say, folded into what the view shows. It is not safe for concurrent use.
type state struct {
	run   string
	began time.Time
	over  bool

	hosts  []*host // in their natural order
	byName map[string]*host
	count  [places]int
	folds  [places]fold
	quiet  int

	// Of copies, in bytes: what was sent, by all hosts that ever copied, and what is left for those that do now.
	sent, left int64
	speed      speed

	failures []console.Failure // see group
	grouped  grouping

	paused    string // why, or "" where hosts begin
	asked     string // why the run has paused itself
	limit     int    // hosts at the same time, 0 = all
	wave      int    // of waves; 0: the run has none
	waves     int
	converged time.Duration
	notes     []string
	recent    []line
}

func newState() *state { return &state{byName: map[string]*host{}} }

// host returns the host of a name; one that was added to the run later is made.
func (s *state) host(name string, at time.Time) *host {
	if h := s.byName[name]; h != nil {
		return h
	}
	h := &host{name: name, since: at}
	i, _ := slices.BinarySearchFunc(s.hosts, h, byName)
	s.hosts = slices.Insert(s.hosts, i, h)
	s.byName[name] = h
	s.count[queued]++
	s.folds[queued].stale = true
	return h
}

func byName(a, b *host) int { return nodeset.Compare(a.name, b.name) }

// apply takes an event.
func (s *state) apply(event messages.Event) {
	switch e := event.(type) {
	case messages.RunStarted:
		s.start(e)
	case messages.StateChanged:
		h := s.host(e.Host, e.At)
		h.state, h.epoch = e.State, e.Epoch
		if to, known := placeOf[e.State]; known && (h.place == queued || to == retrying) {
			s.move(h, to, e.At) // somebody who comes late is not told of the step
		}
	case messages.StepStarted:
		s.move(s.host(e.Host, e.At), place(e.Step), e.At)
	case messages.StepDone:
		if h := s.host(e.Host, e.At); int(e.Step) < len(h.took) {
			h.took[e.Step] = e.Took
		}
	case messages.Progressed:
		s.progressed(s.host(e.Host, e.At), e)
	case messages.PayloadStarted:
		s.host(e.Host, e.At).pid = e.PID
	case messages.PayloadRestarted:
		s.host(e.Host, e.At).pid = e.PID
	case messages.QuietReported:
		s.setQuiet(s.host(e.Host, e.At), e.Quiet)
	case messages.HostTroubled:
		h := s.host(e.Host, e.At)
		h.failed, h.reason, h.retry = h.failed+1, console.Visible(e.Reason), e.At.Add(e.RetryIn)
	case messages.HostWarned:
		s.note(e.Host + ": " + console.Visible(e.Text))
	case messages.DefinitionNotUpdated:
		s.note(e.Host + ": the changed definition is not there: " + console.Visible(e.Reason))
	case messages.OutputReceived:
		s.output(s.host(e.Host, e.At), e.Data)
	case messages.RunPaused:
		s.asked = console.Visible(e.Reason)
		s.paused = cmp.Or(s.asked, "no more hosts begin")
	case messages.RunContinued:
		s.paused, s.asked = "", ""
	case messages.ConnectionsLimited:
		s.limit = e.Limit
	case messages.WaveStarted:
		s.wave, s.waves = e.Wave, e.Waves
	case messages.RunExceeded:
		s.note(console.Visible(e.Reason))
	case messages.Converged:
		if e.Host == "" {
			s.converged = e.For
		}
	case messages.HostFinished:
		s.finished(s.host(e.Result.Host, e.At), e)
	case messages.RunFinished:
		s.over = true
	}
}

func (s *state) start(e messages.RunStarted) {
	s.run, s.began = e.Run, e.At
	for _, name := range e.Hosts {
		h := &host{name: name, since: e.At}
		s.hosts, s.byName[name] = append(s.hosts, h), h
	}
	slices.SortFunc(s.hosts, byName)
	s.count[queued] = len(s.hosts)
	s.folds[queued].stale = true
}

// move brings a host to another place.
func (s *state) move(h *host, to place, at time.Time) {
	if h.place == copying && to != copying {
		s.left -= h.total - h.sent
		h.total = h.sent
	}
	if to != running {
		s.setQuiet(h, false)
	}
	if h.place == to {
		return
	}
	s.count[h.place]--
	s.count[to]++
	s.folds[h.place].stale, s.folds[to].stale = true, true
	h.place, h.since = to, at
	if to == copying {
		h.sent, h.total = 0, 0
	}
}

func (s *state) setQuiet(h *host, quiet bool) {
	if h.quiet == quiet {
		return
	}
	h.quiet = quiet
	if quiet {
		s.quiet++
	} else {
		s.quiet--
	}
}

func (s *state) progressed(h *host, e messages.Progressed) {
	if h.place != copying {
		return
	}
	s.sent += e.Sent - h.sent
	s.left += (e.Total - e.Sent) - (h.total - h.sent)
	h.sent, h.total = e.Sent, e.Total
}

func (s *state) finished(h *host, e messages.HostFinished) {
	h.result = &e.Result
	to := failed
	switch e.Result.Outcome {
	case messages.OutcomeSucceeded:
		to = succeeded
	case messages.OutcomeCanceled, messages.OutcomeSkipped:
		to = canceled
	}
	s.move(h, to, e.At)
	s.grouped.stale = s.grouped.stale || to == failed
}

// note keeps a message for people.
func (s *state) note(text string) { s.notes = last(append(s.notes, text), maxNotes) }

// output keeps the end of a host's output, and its lines.
func (s *state) output(h *host, data []byte) {
	h.tail = append(h.tail, data[max(0, len(data)-maxTail):]...)
	if over := len(h.tail) - maxTail; over > maxTail {
		h.tail = bytes.Clone(h.tail[over:])
	}
	data = data[max(0, len(data)-maxRecent*maxPartial):]
	for len(data) > 0 {
		piece, rest, ended := bytes.Cut(data, []byte("\n"))
		h.partial = append(h.partial, piece[:min(len(piece), maxPartial-min(maxPartial, len(h.partial)))]...)
		if ended {
			s.recent = append(s.recent, line{h.name, outputText(h.partial)})
			h.partial = nil
		}
		data = rest
	}
	s.recent = last(s.recent, maxRecent)
}

// last returns the last n of all, cutting only now and then.
func last[T any](all []T, n int) []T {
	if len(all) <= 2*n {
		return all
	}
	return slices.Clone(all[len(all)-n:])
}

// outputText is a line of output as a terminal may show it.
func outputText(text []byte) string {
	return console.Visible(string(bytes.TrimRight(bytes.ReplaceAll(text, []byte("\t"), []byte("    ")), "\r")))
}

// inWork counts the hosts that have begun and are not done.
func (s *state) inWork() int { return len(s.hosts) - s.count[queued] - s.done() }

// done counts the hosts that are done.
func (s *state) done() int { return s.count[succeeded] + s.count[canceled] + s.count[failed] }
