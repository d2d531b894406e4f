package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// results makes the results of hosts durable, so that an initiator that comes after a crash knows who is done.
type results struct {
	run     *store.Run
	earlier map[string]messages.Result // of earlier initiators; immutable
	writing sync.WaitGroup
	mu      sync.Mutex
	errs    []error
}

func openResults(run *store.Run) (*results, error) {
	earlier, err := decodeResults(run.Results())
	return &results{run: run, earlier: earlier}, err
}

func decodeResults(kept map[string]json.RawMessage) (map[string]messages.Result, error) {
	decoded := make(map[string]messages.Result, len(kept))
	for host, data := range kept {
		var r messages.Result
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("the result of %s that was kept: %w", host, err)
		}
		decoded[host] = r
	}
	return decoded, nil
}

// final reports whether nothing more is to be done about a host. Where something may be left there, or another
// initiator has it, whoever continues the run looks after it.
func final(r messages.Result) bool {
	return r.LeftBehind == "" && r.Outcome != messages.OutcomeTakenOver
}

// keep begins to record a result. It does not wait: many hosts that end together share a sync of the disk. A crash
// before that does no harm, since the session's own record says that it is over.
func (r *results) keep(result messages.Result) {
	if !final(result) {
		return
	}
	r.writing.Go(func() {
		data, err := json.Marshal(result)
		if err == nil {
			err = r.run.RecordResult(context.Background(), result.Host, data)
		}
		if err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.errs = append(r.errs, err)
		}
	})
}

// complete adds what earlier initiators found to the end of the run.
func (r *results) complete(e messages.RunFinished) messages.RunFinished {
	if len(r.earlier) == 0 {
		return e
	}
	e.Results = slices.Clone(e.Results)
	for _, result := range r.earlier {
		e.Results = append(e.Results, result)
	}
	slices.SortFunc(e.Results, func(a, b messages.Result) int { return strings.Compare(a.Host, b.Host) })
	return e
}

// close waits until everything is recorded.
func (r *results) close() error {
	r.writing.Wait()
	return errors.Join(r.errs...)
}
