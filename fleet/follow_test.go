package fleet

import (
	"log/slog"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// TestAFollowerThatFellBehind is let go in the middle, comes back, and is told what it can't know, once.
func TestAFollowerThatFellBehind(t *testing.T) {
	root := t.TempDir()
	run, err := store.OpenRun(store.RunOptions{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := &running{fleet: &Fleet{opts: Options{Logger: slog.New(slog.DiscardHandler)}}, run: run}
	r.listen()
	if r.control == nil {
		t.Fatal("no control socket")
	}
	defer func() {
		if err := r.control.Close(); err != nil {
			t.Error(err)
		}
	}()
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	finished := func(host string) messages.Event {
		return messages.HostFinished{At: at, Result: messages.Result{Host: host, Outcome: messages.OutcomeSucceeded}}
	}
	r.publish(messages.RunStarted{At: at, Run: run.ID(), Hosts: []string{"h1", "h2", "h3"}})
	r.publish(messages.StateChanged{At: at, Host: "h3", State: "Connecting"})
	r.publish(messages.StateChanged{At: at, Host: "h3", State: "Running"})
	r.publish(finished("h1"))

	var missed int
	seen := map[string]int{}
	begun, proceed, back, ended := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan error)
	w := &Follower{StateDir: root, Run: run.ID(), Missed: func() { missed++ }, Observe: func(e messages.Event) error {
		name := messages.EventName(e)
		switch e := e.(type) {
		case messages.HostFinished:
			name = e.Result.Host
		case messages.StateChanged:
			name = e.State
		}
		seen[name]++
		switch name {
		case "h1":
			close(begun)
			<-proceed // a person looks at it, slowly
		case "h2":
			close(back)
		}
		return nil
	}}
	go func() { ended <- w.Follow(t.Context()) }()
	<-begun
	// More than a socket and the server's patience hold.
	data := make([]byte, 64)
	for range 20_000 {
		r.publish(messages.OutputReceived{At: at, Host: "h3", Data: data})
	}
	r.publish(finished("h2"))
	close(proceed)
	select {
	case <-back: // it has been told of h2, which was after its time
	case err := <-ended:
		t.Fatalf("%v, missed %d, seen %v", err, missed, seen)
	}
	r.publish(finished("h3"))
	r.publish(messages.RunFinished{At: at, Run: run.ID()})
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, once := range []string{"run_started", "h1", "h2", "h3", "Running", "run_finished"} {
		if seen[once] != 1 {
			t.Errorf("%s was seen %d times", once, seen[once])
		}
	}
	if missed != 1 || seen["Connecting"] != 0 || seen["output_received"] == 0 || seen["output_received"] == 20_000 {
		t.Errorf("missed %d, seen %v", missed, seen)
	}
}
