package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/renameio/v2"
)

// SessionPhase says how far a host's session got, as far as the initiator knows for certain.
type SessionPhase string

// The phases, in their order. Each is recorded before what it announces can have happened on the host, or after it
// certainly has, whichever makes a second start impossible.
const (
	// PhaseStarting: recorded before the first attempt to start; the session may or may not exist.
	PhaseStarting SessionPhase = "starting"
	// PhaseStarted: the shim answered that the payload was started.
	PhaseStarted SessionPhase = "started"
	// PhaseFinished: the payload has ended and its exit is known.
	PhaseFinished SessionPhase = "finished"
	// PhaseCleaned: nothing of the session is left on the host.
	PhaseCleaned SessionPhase = "cleaned"
)

// ExitRecord is how a payload ended.
type ExitRecord struct {
	Code   int    `json:"code"`             // exit status; -1 where Signal or Error is set
	Signal int    `json:"signal,omitempty"` // number of the signal that ended it
	Error  string `json:"error,omitempty"`  // why it could not be started, or why nobody knows how it ended
	Cause  string `json:"cause,omitempty"`  // what ended it, where that was neither itself nor an initiator: messages.Cause
}

// SessionRecord is what the initiator must know about a session after a crash of its own.
type SessionRecord struct {
	Phase  SessionPhase `json:"phase"`
	Nonce  string       `json:"nonce"`             // names the start
	Token  string       `json:"token"`             // secret: proves to the shim that the session is ours
	Base   string       `json:"base"`              // base directory on the host
	Dir    string       `json:"dir"`               // session directory on the host
	Shim   []string     `json:"shim,omitempty"`    // the command of the shim that started it, or is to; every attach uses the same
	BootID string       `json:"boot_id,omitempty"` // of the host when the session was started
	Fence  uint64       `json:"fence"`             // fencing token of the initiator that made the record
	Epoch  uint64       `json:"epoch"`             // number of the connection, only grows
	Exit   *ExitRecord  `json:"exit,omitempty"`    // set from PhaseFinished on

	// Reruns counts the sessions of this host that a reboot ended, and OutputStart is where the output of this one begins
	// in the host's log: the shim counts from 0.
	Reruns      int    `json:"reruns,omitempty"`
	OutputStart uint64 `json:"output_start,omitempty"`
}

// line is one line of the journal: a host's session, or its result, as it is from here on.
type line struct {
	Host   string          `json:"host"`
	Record *SessionRecord  `json:"record,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// ledger is what a journal says, the last line about each host and thing.
type ledger struct {
	sessions map[string]SessionRecord
	results  map[string]json.RawMessage
}

func newLedger() ledger {
	return ledger{sessions: map[string]SessionRecord{}, results: map[string]json.RawMessage{}}
}

func (v ledger) take(l line) {
	if l.Record != nil {
		v.sessions[l.Host] = *l.Record
	}
	if l.Result != nil {
		v.results[l.Host] = l.Result
	}
}

func (v ledger) size() int { return len(v.sessions) + len(v.results) }

// journal is an append-only file of lines with one goroutine that writes: it takes all requests that wait,
// writes them at once and syncs once (group commit).
type journal struct {
	file *os.File
	reqs chan *request
	stop chan struct{} // closed by close
	done chan struct{} // closed when the goroutine has ended

	mu   sync.RWMutex
	view ledger // what is durable
}

type request struct {
	line   line
	answer chan error // buffered: the goroutine never waits for a caller that went away
}

// rewriteAt is how many superseded lines a journal may have before opening rewrites it.
const rewriteAt = 1000

// openJournal reads a journal, cuts off a torn tail, and starts the goroutine.
func openJournal(path string) (*journal, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	fresh := err != nil
	view, lines, good, err := parseJournal(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if lines > view.size()+rewriteAt {
		if err := rewriteJournal(path, view); err != nil {
			return nil, err
		}
		good = -1
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if good >= 0 && good < len(data) {
		err = errors.Join(f.Truncate(int64(good)), f.Sync())
	}
	if fresh {
		err = errors.Join(err, syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	j := &journal{file: f, reqs: make(chan *request), stop: make(chan struct{}), done: make(chan struct{}), view: view}
	go j.work()
	return j, nil
}

// parseJournal returns what the lines say, the number of lines, and how many bytes are good. What a crash
// can leave is a tail that is cut anywhere or holds zeros: from the first line that is not whole on, nothing was
// ever promised. A good line behind a bad one is not a crash but a damaged file, which is an error.
func parseJournal(data []byte) (view ledger, lines, good int, err error) {
	view = newLedger()
	torn := false
	for rest := data; len(rest) > 0; {
		text, next, whole := bytes.Cut(rest, []byte("\n"))
		l, ok := parseLine(text)
		switch {
		case !whole || !ok:
			torn = true
		case torn:
			return ledger{}, 0, 0, fmt.Errorf("damaged: bytes %d to %d are no record, but whole records follow", good, len(data)-len(rest))
		default:
			view.take(l)
			lines++
			good = len(data) - len(next)
		}
		rest = next
	}
	return view, lines, good, nil
}

func parseLine(text []byte) (line, bool) {
	var l line
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&l); err != nil || dec.More() {
		return line{}, false
	}
	session := l.Record != nil && l.Record.Phase != ""
	return l, l.Host != "" && (session || l.Record == nil && l.Result != nil)
}

// rewriteJournal replaces a long journal by one without what was superseded.
func rewriteJournal(path string, view ledger) error {
	var b bytes.Buffer
	for host, rec := range view.sessions {
		if err := encodeLine(&b, line{Host: host, Record: &rec}); err != nil {
			return err
		}
	}
	for host, result := range view.results {
		if err := encodeLine(&b, line{Host: host, Result: result}); err != nil {
			return err
		}
	}
	if err := renameio.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func encodeLine(b *bytes.Buffer, l line) error {
	return json.NewEncoder(b).Encode(l) // ends with a newline, has none inside
}

func (j *journal) session(host string) (SessionRecord, bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	rec, ok := j.view.sessions[host]
	return rec, ok
}

func (j *journal) hosts() []string {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return slices.Sorted(maps.Keys(j.view.sessions))
}

func (j *journal) results() map[string]json.RawMessage {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return maps.Clone(j.view.results)
}

func (j *journal) appendSession(ctx context.Context, host string, rec SessionRecord) error {
	if host == "" || rec.Phase == "" {
		return errors.New("a record needs a host and a phase")
	}
	if rec.Exit != nil { // the caller keeps his
		exit := *rec.Exit
		rec.Exit = &exit
	}
	return j.append(ctx, line{Host: host, Record: &rec})
}

// append returns when the line is on the disk.
func (j *journal) append(ctx context.Context, l line) error {
	r := &request{line: l, answer: make(chan error, 1)}
	select {
	case j.reqs <- r:
	case <-j.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *journal) close() error {
	close(j.stop)
	<-j.done
	return j.file.Close()
}

// work is the goroutine that writes.
func (j *journal) work() {
	defer close(j.done)
	var broken error
	for {
		select {
		case first := <-j.reqs:
			batch := j.gather(first)
			if broken == nil {
				broken = j.commit(batch)
			}
			for _, r := range batch {
				r.answer <- broken
			}
		case <-j.stop:
			return
		}
	}
}

// gather takes everything that waits behind the first request, up to a bound.
func (j *journal) gather(first *request) []*request {
	const most = 4096
	batch := []*request{first}
	for len(batch) < most {
		select {
		case r := <-j.reqs:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// commit writes a batch, syncs it, and only then shows it.
func (j *journal) commit(batch []*request) error {
	var b bytes.Buffer
	for _, r := range batch {
		if err := encodeLine(&b, r.line); err != nil {
			return err
		}
	}
	if _, err := j.file.Write(b.Bytes()); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range batch {
		j.view.take(r.line)
	}
	return nil
}
