package fleet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/shimbin"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

func TestMain(m *testing.M) {
	shimbin.Declare() // simulated hosts run nothing
	// protoactor counts dead letters in a goroutine that lives for a second.
	leaks.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

// cachedShim is what the hosts' caches hold from the start, so that tests copy no megabytes.
var cachedShim = sync.OnceValues(func() (string, error) {
	programs := shimbin.New()
	b, err := programs.Shim("linux", runtime.GOARCH)
	if err != nil {
		return "", err
	}
	blob, err := transfer.OpenBlob(b.Path, b.Name)
	if err != nil {
		return "", errors.Join(err, programs.Close())
	}
	return blob.Key(), errors.Join(blob.Close(), programs.Close())
})

// rig is a fleet of simulated hosts in real time.
type rig struct {
	*testing.T
	opts   Options
	sims   map[string]*simhost.Host
	mu     sync.Mutex
	events []messages.Event
	at     map[string]chan struct{} // closed when a host runs its payload
	done   map[string]chan struct{} // closed when a host has a result
}

func newRig(t *testing.T, payloads ...simhost.Payload) *rig {
	t.Helper()
	key, err := cachedShim()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, sims: map[string]*simhost.Host{}, at: map[string]chan struct{}{}, done: map[string]chan struct{}{}}
	network := simhost.NewNetwork()
	r.opts = Options{
		Payload: Payload{Command: []string{"x"}}, StateDir: t.TempDir(), Observe: r.observe,
		SSH: SSH{HostKeys: HostKeysInsecure, Identities: []string{identity(t)}, NetDial: network.DialContext},
	}
	for i, p := range payloads {
		name := "h" + string(rune('1'+i))
		h := simhost.New(simhost.Options{Name: name, Payload: p})
		h.Mkdir("/var/tmp/mgmt-remote-1000", 0o700, 1000)
		h.Mkdir("/var/tmp/mgmt-remote-1000/cache", 0o700, 1000)
		h.Mkdir("/var/tmp/mgmt-remote-1000/cache/"+filepath.Dir(key), 0o700, 1000)
		h.PutFile("/var/tmp/mgmt-remote-1000/cache/"+key, nil, 0o700)
		network.Add(name+":22", h)
		r.sims[name], r.at[name], r.done[name] = h, make(chan struct{}), make(chan struct{})
		r.opts.Hosts = append(r.opts.Hosts, Host{Name: name, Addr: name, User: "sim"})
		t.Cleanup(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return r
}

func identity(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (r *rig) observe(e messages.Event) {
	if err := fitsSchema(e); err != nil {
		r.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	switch m := e.(type) {
	case messages.PayloadStarted:
		if !m.Reattached {
			close(r.at[m.Host])
		}
	case messages.HostFinished:
		select {
		case <-r.done[m.Result.Host]: // in an earlier fleet
		default:
			close(r.done[m.Result.Host])
		}
	}
}

func (r *rig) fleet() *Fleet {
	r.Helper()
	f, err := New(r.opts)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := f.Close(); err != nil {
			r.Error(err)
		}
	})
	return f
}

// states returns the names of the runs whose state is kept.
func (r *rig) states() []string {
	r.Helper()
	entries, err := os.ReadDir(r.opts.StateDir)
	if err != nil {
		r.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func says(text string) simhost.Payload {
	return simhost.Payload{Output: []simhost.Chunk{{Data: text}}, Run: 20 * time.Millisecond}
}

func TestRun(t *testing.T) {
	r := newRig(t, says("one\n"), says("two\n"))
	report, err := r.fleet().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != 2 || report.Run == "" || report.Took <= 0 {
		t.Fatalf("report %+v", report)
	}
	for _, result := range report.Results {
		if result.Outcome != messages.OutcomeSucceeded {
			t.Errorf("result %+v", result)
		}
	}
	first, ok := r.events[0].(messages.RunStarted)
	if !ok || !slices.Equal(first.Hosts, []string{"h1", "h2"}) || first.Run != report.Run {
		t.Errorf("first event %+v", r.events[0])
	}
	if _, ok := r.events[len(r.events)-1].(messages.RunFinished); !ok {
		t.Errorf("last event %+v", r.events[len(r.events)-1])
	}
	finished, output, ended := 0, map[string]string{}, map[string]bool{}
	for _, e := range r.events {
		switch m := e.(type) {
		case messages.RunFinished:
			finished++
		case messages.OutputReceived:
			output[m.Host] += string(m.Data)
			if ended[m.Host] {
				t.Errorf("output of %s after its end", m.Host)
			}
		case messages.PayloadEnded:
			ended[m.Host] = true
		}
	}
	if finished != 1 || output["h1"] != "one\n" || output["h2"] != "two\n" {
		t.Errorf("finished %d, output %q", finished, output)
	}
	if kept := r.states(); len(kept) != 0 {
		t.Errorf("kept %q", kept)
	}
}

func TestRunsOnce(t *testing.T) {
	r := newRig(t, says("x"))
	f := r.fleet()
	if _, err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Run(t.Context()); err == nil {
		t.Error("a second run")
	}
}

func TestStateIsKept(t *testing.T) {
	r := newRig(t, says("kept\n"))
	r.opts.KeepState = true
	report, err := r.fleet().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if kept := r.states(); len(kept) != 1 || kept[0] != report.Run {
		t.Errorf("kept %q", kept)
	}

	r = newRig(t, simhost.Payload{})
	f := r.fleet()
	go func() {
		<-r.at["h1"]
		r.sims["h1"].Freeze()
		f.Stop(messages.StopLeave)
	}()
	r.opts.Patience.Leave = 100 * time.Millisecond
	f.opts.Patience = r.opts.Patience
	f.opts.Patience.Finish, f.opts.Patience.Now = time.Second, time.Second
	report, err = f.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report.Results[0].LeftBehind == "" || len(r.states()) != 1 {
		t.Errorf("result %+v, kept %q", report.Results[0], r.states())
	}
}

func TestStopBeforeRun(t *testing.T) {
	r := newRig(t, says("x"))
	f := r.fleet()
	f.Stop(messages.StopFinish)
	report, err := f.Run(t.Context())
	if err != nil || len(report.Results) != 1 || report.Results[0].Outcome != messages.OutcomeCanceled {
		t.Errorf("%+v %v", report, err)
	}
	if n := r.sims["h1"].PayloadStarts(); n != 0 {
		t.Errorf("%d starts", n)
	}
	f.Stop(messages.StopNow) // after the run: nothing happens
	f.Remove("h1")
}

func TestTheEndOfTheContextFinishes(t *testing.T) {
	r := newRig(t, simhost.Payload{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-r.at["h1"]
		cancel()
	}()
	report, err := r.fleet().Run(ctx)
	if err != nil || report.Results[0].Outcome != messages.OutcomeCanceled || report.Results[0].LeftBehind != "" {
		t.Errorf("%+v %v", report, err)
	}
	if s := r.sims["h1"].Sessions(); len(s) != 0 {
		t.Errorf("sessions %+v", s)
	}
}

func TestAddAndRemove(t *testing.T) {
	r := newRig(t, simhost.Payload{}, says("late\n"))
	late := r.opts.Hosts[1]
	r.opts.Hosts = r.opts.Hosts[:1]
	f := r.fleet()
	go func() {
		<-r.at["h1"]
		if err := f.Add(late); err != nil {
			t.Error(err)
		}
		if err := f.Add(late); err == nil {
			t.Error("added twice")
		}
		<-r.at["h2"]
		f.Remove("h1")
	}()
	report, err := f.Run(t.Context())
	if err != nil || len(report.Results) != 2 {
		t.Fatalf("%+v %v", report, err)
	}
	if report.Results[0].Outcome != messages.OutcomeCanceled || report.Results[1].Outcome != messages.OutcomeSucceeded {
		t.Errorf("%+v", report.Results)
	}
}

// A slow observer of one host's output holds back that host and nobody else.
func TestASlowObserver(t *testing.T) {
	r := newRig(t, simhost.Payload{Output: []simhost.Chunk{{Data: strings.Repeat("x", 2<<20)}}, Run: 20 * time.Millisecond}, says("quick\n"))
	seen, quick := 0, make(chan struct{})
	r.opts.Observe = func(e messages.Event) {
		switch m := e.(type) {
		case messages.OutputReceived:
			if m.Host == "h1" {
				seen += len(m.Data)
				if seen < 256<<10 {
					time.Sleep(time.Millisecond)
				}
			}
		case messages.HostFinished:
			if m.Result.Host == "h2" {
				close(quick)
			}
		}
	}
	report, err := r.fleet().Run(t.Context())
	if err != nil || report.Results[0].Outcome != messages.OutcomeSucceeded || report.Results[1].Outcome != messages.OutcomeSucceeded {
		t.Fatalf("%+v %v", report, err)
	}
	<-quick
	if seen != 2<<20 {
		t.Errorf("%d bytes of output", seen)
	}
}

func TestASystemOfYourOwn(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }))
	defer system.Shutdown()
	r := newRig(t, says("x"))
	r.opts.System = system
	if _, err := r.fleet().Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if system.IsStopped() {
		t.Error("the user's system was shut down")
	}
}

func TestASupervisorThatFailsEndsTheRun(t *testing.T) {
	r := newRig(t, simhost.Payload{})
	f := r.fleet()
	go func() {
		<-r.at["h1"]
		f.tell(errors.New("planted")) // work of its own that failed
	}()
	_, err := f.Run(t.Context())
	if fault.KindOf(err) != fault.Bug || !strings.Contains(err.Error(), "planted") {
		t.Errorf("error %v", err)
	}
	if len(r.states()) != 1 {
		t.Error("the state of sessions that are left was not kept")
	}
}

func TestBadOptions(t *testing.T) {
	good := func() Options {
		return Options{
			Hosts: []Host{{Name: "h1", Addr: "h1"}}, Payload: Payload{Command: []string{"x"}}, StateDir: t.TempDir(),
			SSH: SSH{HostKeys: HostKeysInsecure, Identities: []string{identity(t)}},
		}
	}
	for name, c := range map[string]struct {
		spoil func(*Options)
		says  string
	}{
		"duplicate host":   {func(o *Options) { o.Hosts = append(o.Hosts, o.Hosts[0]) }, "h1 is named twice"},
		"bad name":         {func(o *Options) { o.Hosts[0].Name = "a b" }, "a b"},
		"no address":       {func(o *Options) { o.Hosts[0].Addr = "" }, "no address"},
		"bad port":         {func(o *Options) { o.Hosts[0].Port = 70000 }, "70000"},
		"bad prefix":       {func(o *Options) { o.Hosts[0].Prefix = "relative" }, "prefix"},
		"nothing to run":   {func(o *Options) { o.Payload.Command = nil }, "neither a graph definition nor a command"},
		"bad template":     {func(o *Options) { o.Payload.Command = []string{"{{.Nope}}"} }, "Nope"},
		"bad reboots":      {func(o *Options) { o.OnReboot = "maybe" }, "maybe"},
		"bad host keys":    {func(o *Options) { o.SSH.HostKeys = "maybe" }, "maybe"},
		"no such identity": {func(o *Options) { o.SSH.Identities = []string{"/nonexistent/key"} }, "/nonexistent/key"},
		"nobody to ask":    {func(o *Options) { o.SSH.AskPassword = true }, "nobody to ask"},
	} {
		o := good()
		c.spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Add(Host{Name: "h1", Addr: "elsewhere"}); err == nil {
		t.Error("a name is taken twice")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestAStateDirectoryThatCantBe(t *testing.T) {
	r := newRig(t, says("x"))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.opts.StateDir = file
	if _, err := r.fleet().Run(t.Context()); fault.KindOf(err) != fault.Environment {
		t.Errorf("error %v", err)
	}
}
