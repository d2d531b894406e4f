package become

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// Where each connection has one session, what comes second gets a connection of its own, which ends with the first one.
func TestSecondConnection(t *testing.T) {
	host, dial := serve(t)
	host.MaxSessions(1)
	conn := dial(t)
	var made []*sshconn.Conn
	w := &way{conn: conn, host: "h1", login: "ann", user: "bob", method: Sudo, program: fakeSudo(t, `run "$@"`)}
	w.spare = newSpare(conn, func(context.Context) (*sshconn.Conn, error) {
		if len(made) == 2 {
			return nil, errors.New("no more")
		}
		made = append(made, dial(t))
		return made[len(made)-1], nil
	})
	first, err := w.Open(t.Context(), "cat")
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.Open(t.Context(), "cat")
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %d connections more", err, len(made))
	}
	if _, err := w.Open(t.Context(), "cat"); fault.KindOf(err) != fault.Busy || len(made) != 1 {
		t.Errorf("a third session: %v, %d connections more", err, len(made))
	}
	// One that was lost is made again.
	if err := errors.Join(second.Close(), made[0].Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open(t.Context(), "cat"); err != nil || len(made) != 2 {
		t.Fatalf("%v, %d connections more", err, len(made))
	}
	if err := errors.Join(first.Close(), conn.Close()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-made[1].Done():
	case <-time.After(long):
		t.Error("the second connection outlives the first")
	}
}
