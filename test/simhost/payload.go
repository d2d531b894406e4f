package simhost

import (
	"context"
	"errors"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

var errSignalled = errors.New("signalled")

// run is the payload's life. ctx ends with a signal that is obeyed, or with the shim.
func (s *session) run(ctx context.Context) {
	p := s.host.opts.Payload
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		for _, c := range p.Output {
			if !sleep(ctx, c.After) {
				return
			}
			s.print(c.Stderr, c.Data)
		}
	}()
	code := p.ExitCode
	switch {
	case p.Body != nil:
		code = p.Body(ctx, &Process{s})
	case p.Run > 0:
		sleep(ctx, p.Run)
	default:
		<-ctx.Done()
	}
	h := s.host
	h.mu.Lock()
	fatal := s.fatal
	s.cancelLocked()
	h.mu.Unlock()
	<-printed
	exit := &wire.Exit{Code: int32(code)}
	if fatal != 0 && p.Body == nil {
		exit = &wire.Exit{Code: -1, Signal: fatal}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.finish(exit)
}

// cancelLocked ends what prints for the payload: it is dead.
func (s *session) cancelLocked() { s.cancel(errExited) }

var errExited = errors.New("exited")

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *session) print(stderr bool, text string) {
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if text == "" || s.exit != nil || s.over() {
		return
	}
	s.output = append(s.output, piece{s.end, stderr, text})
	s.end += uint64(len(text))
	s.notify()
}

// acknowledge forgets output below offset.
func (s *session) acknowledge(offset uint64) {
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	offset = min(offset, s.end)
	for len(s.output) > 0 && s.output[0].offset+uint64(len(s.output[0].data)) <= offset {
		s.output = s.output[1:]
	}
	s.start = max(s.start, offset)
}

// maxOutput is the most that one Output frame carries.
const maxOutput = 32 << 10

// next returns the output at offset from, as much as credit and one frame allow. Host.mu is held.
func (s *session) next(from, credit uint64) *wire.Frame {
	if from < s.start {
		return &wire.Frame{Kind: &wire.Frame_Gap{Gap: &wire.Gap{From: from, To: s.start}}}
	}
	if from >= credit {
		return nil
	}
	for _, p := range s.output {
		if from < p.offset || from >= p.offset+uint64(len(p.data)) {
			continue
		}
		data := p.data[from-p.offset:]
		data = data[:min(uint64(len(data)), credit-from, maxOutput)]
		return &wire.Frame{Kind: &wire.Frame_Output{Output: &wire.Output{Offset: from, Stderr: p.stderr, Data: []byte(data)}}}
	}
	return nil
}
