package supervisor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/host"
	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

const runID = "run12345"

// rig is a whole fleet in one synctest bubble: the supervisor with everything below it, simulated hosts, and fakes of
// what is on the initiator's disk.
type rig struct {
	*testing.T
	cfg     supervisor.Config
	traces  map[string]messages.Trace // what an earlier initiator may have left, by host
	host    host.Config               // what all hosts have in common
	network *simhost.Network
	sims    map[string]*simhost.Host
	ledger  *ledger
	outputs map[string]*output
	gateway *gateway
	blob    *transfer.Blob
	noCache bool
	first   messages.Definition // of every host
	prefix  string
	spawned map[string]int
	told    bool // the story, once

	system *actor.ActorSystem
	pid    *actor.PID

	mu      sync.Mutex
	events  []messages.Event
	changed chan struct{}
}

// inBubble runs a test with hosts h1, h2 … that are as the options say.
func inBubble(t *testing.T, hosts []simhost.Options, test func(r *rig)) {
	t.Helper()
	f, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &rig{
			T: t, network: simhost.NewNetwork(), sims: map[string]*simhost.Host{}, spawned: map[string]int{},
			ledger: &ledger{records: map[string]store.SessionRecord{}}, outputs: map[string]*output{}, gateway: &gateway{}, changed: make(chan struct{}),
		}
		r.blob, err = transfer.OpenBlob(f.program, "shim")
		r.check(err)
		defer func() { r.check(r.blob.Close()) }()
		keys, err := sshconn.NewHostKeys(sshconn.HostKeyOptions{Policy: sshconn.Strict, Files: []string{f.known}})
		r.check(err)
		auth, err := sshconn.NewAuth(sshconn.AuthOptions{Identities: []string{f.identity}})
		r.check(err)
		defer func() { r.check(auth.Close()) }()
		dialer, err := sshconn.NewDialer(sshconn.Options{HostKeys: keys, Auth: auth, NetDial: r.network.DialContext})
		r.check(err)
		r.host = host.Config{Run: runID, Dialer: dialer, Gateway: r.gateway, Ledger: r.ledger, Payload: r}
		r.cfg = supervisor.Config{
			Run: runID, Host: r.props, Observe: r.observe, Policy: restart.Default(time.Minute), Logger: slog.New(slog.DiscardHandler),
		}
		for i, o := range hosts {
			o.Name, o.User = fmt.Sprintf("h%d", i+1), "sim"
			if o.Payload.Body == nil && o.Payload.Run == 0 && o.Payload.Output == nil {
				o.Payload.Output = []simhost.Chunk{{Data: "hello\n"}}
			}
			r.sims[o.Name] = simhost.New(o)
			r.network.Add(o.Name+":22", r.sims[o.Name])
			r.outputs[o.Name] = &output{}
		}
		defer r.close()
		test(r)
	})
}

func one(p simhost.Payload) []simhost.Options { return []simhost.Options{{Payload: p}} }

func (r *rig) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// close stops what a test left running and waits for all of it.
func (r *rig) close() {
	if r.system != nil {
		r.check(r.system.Root.StopFuture(r.pid).Wait())
		r.system.Shutdown()
		synctest.Wait()
	}
	for name, h := range r.sims {
		if n, _ := h.Connections(); n != 0 {
			r.Errorf("%s still has %d connections", name, n)
		}
		r.check(h.Close())
	}
	time.Sleep(2 * time.Second) // protoactor counts dead letters in a goroutine that lives for a second
}

func (r *rig) props(name string) *actor.Props {
	r.spawned[name]++
	cfg := r.host
	cfg.Host = inventory.Host{Name: name, Addr: name, Port: 22, User: "sim", Prefix: r.prefix}
	cfg.Output = r.outputs[name]
	return host.Props(cfg)
}

// Plan implements host.Planner with one small program for every platform.
func (r *rig) Plan(q payload.Request) (payload.Plan, error) {
	dir := probe.SessionDir(q.Base, q.Run, q.Host)
	spec, err := json.Marshal(wire.Spec{
		Version: 1, Run: q.Run, Host: q.Host, Token: q.Token, Nonce: q.Nonce, Fence: q.Fence, Argv: []string{"x"},
		Endpoint: wire.EndpointUnix, RemoveBase: r.noCache,
	})
	shim := q.Base + "/cache/" + r.blob.Key()
	if r.noCache {
		shim = dir + "/bin/" + r.blob.Name
	}
	files := []transfer.File{{Name: wire.SpecFile, Data: spec, Mode: 0o600}}
	if q.Definition.Source != nil {
		file, err := r.Definition(q)
		if err != nil {
			return payload.Plan{}, err
		}
		files = append(files, file)
	}
	return payload.Plan{
		Dir: dir, Shim: []string{shim}, Session: transfer.Session{Base: q.Base, Run: q.Run, Host: q.Host},
		Copy: transfer.CopyRequest{
			Base: q.Base, Dir: dir, Blobs: []*transfer.Blob{r.blob}, NoCache: r.noCache, Cached: q.Facts.Cached,
			Files: files,
		},
		Upload: r.noCache || !slices.Contains(q.Facts.Cached, r.blob.Key()),
	}, err
}

// observe implements the supervisor's Observe; it is called in the supervisor's turns.
func (r *rig) observe(e messages.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

// start begins the run with the hosts there are.
func (r *rig) start() {
	r.startOpen()
	r.send(messages.NoMoreHosts{})
}

// startOpen begins a run to which hosts may be added.
func (r *rig) startOpen() {
	quiet := slog.New(slog.DiscardHandler)
	r.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }), actor.WithDeadLetterThrottleCount(0),
		actor.WithDeadLetterRequestLogging(false),
	)
	r.pid = r.system.Root.Spawn(supervisor.Props(r.cfg))
	for i := range len(r.sims) {
		name := fmt.Sprintf("h%d", i+1)
		r.send(messages.AddHost{Host: name, Definition: r.first, Trace: r.traces[name]})
	}
}

func (r *rig) send(m any) { r.system.Root.Send(r.pid, m) }

// sendHost reaches a host's actor past the supervisor.
func (r *rig) sendHost(name string, m any) {
	r.system.Root.Send(r.system.NewLocalPID(r.pid.Id+"/host/"+name), m)
}

func (r *rig) seen() []messages.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// await waits for an event, at most so long as a host may need in the worst case.
func (r *rig) await(what string, is func(messages.Event) bool) messages.Event {
	r.Helper()
	return r.awaitFrom(0, what, is)
}

// awaitFrom looks at events past the first n only.
func (r *rig) awaitFrom(n int, what string, is func(messages.Event) bool) messages.Event {
	r.Helper()
	limit := time.NewTimer(time.Hour)
	defer limit.Stop()
	for next := n; ; {
		r.mu.Lock()
		changed, events := r.changed, r.events
		r.mu.Unlock()
		for ; next < len(events); next++ {
			if is(events[next]) {
				return events[next]
			}
		}
		select {
		case <-changed:
		case <-limit.C:
			r.Fatalf("%s did not come within an hour; events:\n%s", what, r.story())
		}
	}
}

func (r *rig) awaitState(name, state string) {
	r.Helper()
	r.await(name+" in "+state, func(e messages.Event) bool {
		s, ok := e.(messages.StateChanged)
		return ok && s.Host == name && s.State == state
	})
}

// finish waits for the end of the run and for the actors' silence, and checks what must hold after any run.
func (r *rig) finish() messages.RunFinished {
	r.Helper()
	end := r.await("the end of the run", func(e messages.Event) bool { _, ok := e.(messages.RunFinished); return ok })
	synctest.Wait()
	finished, done := 0, map[string]bool{}
	for _, e := range r.seen() {
		name := hostOf(e)
		if name != "" && done[name] {
			r.Errorf("%T after the end of %s; events:\n%s", e, name, r.story())
		}
		switch m := e.(type) {
		case messages.RunFinished:
			finished++
		case messages.HostFinished:
			done[m.Result.Host] = true
			if m.Result.Outcome != messages.OutcomeSucceeded && m.Result.Outcome != messages.OutcomeCanceled && m.Result.Reason == "" && m.Result.Exit == nil {
				r.Errorf("a result without a reason: %+v", m.Result)
			}
		}
	}
	if finished != 1 {
		r.Errorf("the run ended %d times", finished)
	}
	for name, sim := range r.sims {
		if len(sim.Unexpected()) > 0 {
			r.Errorf("%s was asked for %q", name, sim.Unexpected())
		}
	}
	if n := r.gateway.open(); n != 0 {
		r.Errorf("the gateway still has %d connections", n)
	}
	return end.(messages.RunFinished)
}

// result returns the one host's result of a finished run.
func (r *rig) result() messages.Result {
	r.Helper()
	end := r.finish()
	if len(end.Results) != 1 {
		r.Fatalf("%d results", len(end.Results))
	}
	return end.Results[0]
}

// succeeded is result, which must be good, with nothing left and everything done once.
func (r *rig) succeeded() messages.Result {
	r.Helper()
	result := r.result()
	if result.Outcome != messages.OutcomeSucceeded {
		r.Errorf("result: %+v\n%s", result, r.story())
	}
	r.startedOnce()
	r.nothingLeft()
	return result
}

func (r *rig) startedOnce() {
	r.Helper()
	if n := r.sims["h1"].PayloadStarts(); n != 1 {
		r.Errorf("the payload was started %d times\n%s", n, r.story())
	}
}

// nothingLeft looks for sessions and files but the cache.
func (r *rig) nothingLeft() {
	r.Helper()
	for name, sim := range r.sims {
		if s := sim.Sessions(); len(s) > 0 {
			r.Errorf("%s still has sessions %+v\n%s", name, s, r.story())
		}
		for _, f := range sim.Files() {
			if strings.Contains(f.Path, "/mgmt-remote-") && (strings.Contains(f.Path, runID) || r.noCache) {
				r.Errorf("%s still has %s\n%s", name, f.Path, r.story())
			}
		}
	}
}

// story tells the events for people.
func (r *rig) story() string {
	if r.told {
		return "(see above)"
	}
	r.told = true
	var b strings.Builder
	for _, e := range r.seen() {
		fmt.Fprintf(&b, "  %s %+v\n", strings.TrimPrefix(fmt.Sprintf("%T", e), "messages."), e)
	}
	for name, sim := range r.sims {
		for _, e := range sim.Events() {
			fmt.Fprintf(&b, "  %s: %s %s %s\n", name, e.At.Format("05.000"), e.Kind, e.Text)
		}
	}
	return b.String()
}

func hostOf(e messages.Event) string {
	switch m := e.(type) {
	case messages.StateChanged:
		return m.Host
	case messages.StepStarted:
		return m.Host
	case messages.StepDone:
		return m.Host
	case messages.HostTroubled:
		return m.Host
	case messages.Progressed:
		return m.Host
	case messages.PayloadStarted:
		return m.Host
	case messages.DefinitionUpdated:
		return m.Host
	case messages.DefinitionNotUpdated:
		return m.Host
	case messages.PayloadEnded:
		return m.Host
	case messages.HostFinished:
		return m.Result.Host
	}
	return ""
}

// count returns how many events there are of a type.
func count[E messages.Event](r *rig) (n int) {
	for _, e := range r.seen() {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

// ledger is a durable memory that forgets nothing but is no file.
type ledger struct {
	mu      sync.Mutex
	records map[string]store.SessionRecord
	phases  []store.SessionPhase
	before  func(store.SessionRecord) error
}

func (l *ledger) Session(host string) (store.SessionRecord, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.records[host]
	return r, ok
}

func (l *ledger) Fence() uint64 { return 1 }

func (l *ledger) Record(ctx context.Context, host string, record store.SessionRecord) error {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		if err := before(record); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records[host] = record
	l.phases = append(l.phases, record.Phase)
	return ctx.Err()
}

// output holds the log's contract: no repetition, no holes.
type output struct {
	mu     sync.Mutex
	text   []byte
	gaps   uint64
	before func()
}

func (o *output) Offset() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return uint64(len(o.text)) + o.gaps
}

func (o *output) Write(_ context.Context, offset uint64, _ bool, data []byte) error {
	o.mu.Lock()
	before := o.before
	o.mu.Unlock()
	if before != nil {
		before()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	have := uint64(len(o.text)) + o.gaps
	if offset > have {
		return fault.New(fault.Bug, "write output", "a hole between %d and %d", have, offset)
	}
	o.text = append(o.text, data[min(have-offset, uint64(len(data))):]...)
	return nil
}

func (o *output) Gap(from, to uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gaps += to - from
	return nil
}

func (o *output) Sync() error { return nil }

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// gateway answers what it gets until the connection ends.
type gateway struct {
	mu     sync.Mutex
	conns  int
	served int
	before func()
}

func (g *gateway) Handle(_ string, conn net.Conn) {
	g.mu.Lock()
	before := g.before
	g.mu.Unlock()
	if before != nil {
		before()
	}
	g.mu.Lock()
	g.conns++
	g.served++
	g.mu.Unlock()
	go func() {
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
		g.mu.Lock()
		g.conns--
		g.mu.Unlock()
	}()
}

func (g *gateway) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns
}

// dialFunc does something before each dial.
type dialFunc struct {
	before func()
	host.Dialer
}

func (d dialFunc) Dial(ctx context.Context, h inventory.Host) (*sshconn.Conn, error) {
	d.before()
	return d.Dialer.Dial(ctx, h)
}
