package fleet

import (
	"context"
	"errors"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// outputs keeps the hosts' logs open until the host is done, so that a host actor that is restarted goes on where its
// predecessor was.
type outputs struct {
	run    *store.Run
	events *dispatcher
	mu     sync.Mutex
	open   map[string]*output
	errs   []error // of closing
}

func (o *outputs) of(host string) *output {
	o.mu.Lock()
	defer o.mu.Unlock()
	if out, ok := o.open[host]; ok {
		return out
	}
	out := &output{host: host, run: o.run, events: o.events}
	o.open[host] = out
	return out
}

// done closes the log of a host that has nothing more to say: with thousands of hosts open files count.
func (o *outputs) done(host string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if out, ok := o.open[host]; ok {
		o.errs = append(o.errs, out.close())
	}
}

func (o *outputs) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.open {
		o.errs = append(o.errs, out.close())
	}
	return errors.Join(o.errs...)
}

// output is one host's: durable first, shown then. It implements exec.Output.
type output struct {
	host   string
	run    *store.Run
	events *dispatcher

	mu  sync.Mutex
	log *store.Log // nil until it is needed
	err error      // of opening the log
}

func (o *output) logFile() (*store.Log, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.log == nil && o.err == nil {
		o.log, o.err = o.run.Log(o.host)
	}
	return o.log, o.err
}

// Offset implements exec.Output. Where the log can't be opened it is 0, and Write tells why.
func (o *output) Offset() uint64 {
	log, err := o.logFile()
	if err != nil {
		return 0
	}
	return log.Offset()
}

// Write implements exec.Output.
func (o *output) Write(ctx context.Context, offset uint64, stderr bool, data []byte) error {
	log, err := o.logFile()
	if err != nil {
		return err
	}
	have := log.Offset()
	if err := log.Append(offset, data); err != nil {
		return err
	}
	if offset < have { // seen before a reconnect
		data = data[min(have-offset, uint64(len(data))):]
		offset = have
	}
	if len(data) == 0 {
		return nil
	}
	return o.events.postAndWait(ctx, messages.OutputReceived{At: now(), Host: o.host, Offset: offset, Stderr: stderr, Data: data})
}

// Gap implements exec.Output.
func (o *output) Gap(from, to uint64) error {
	log, err := o.logFile()
	if err != nil {
		return err
	}
	return log.Gap(from, to)
}

// Sync implements exec.Output.
func (o *output) Sync() error {
	log, err := o.logFile()
	if err != nil {
		return err
	}
	return log.Sync()
}

// close closes the log; it is opened again if it is needed again.
func (o *output) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	log := o.log
	if log == nil {
		return nil
	}
	o.log = nil
	return log.Close()
}
