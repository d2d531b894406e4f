package exec

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

var errHole = errors.New("a hole")

// plainLog is an Output that takes nothing behind its end.
type plainLog struct{ text []byte }

func (l *plainLog) Offset() uint64 { return uint64(len(l.text)) }

func (l *plainLog) Write(_ context.Context, offset uint64, _ bool, data []byte) error {
	if offset > l.Offset() {
		return errHole
	}
	l.text = append(l.text, data[min(l.Offset()-offset, uint64(len(data))):]...)
	return nil
}

func (l *plainLog) Gap(from, to uint64) error {
	return l.Write(context.Background(), from, false, make([]byte, to-from))
}

func (*plainLog) Sync() error { return nil }

// Sessions that each count from 0, and repeat what was not acknowledged, make one log without holes and repetitions.
func TestShiftedSessionsMakeOneLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := &plainLog{}
		var want []byte
		for range rapid.IntRange(1, 5).Draw(t, "sessions") {
			out := shifted{log, log.Offset()}
			said := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "output")
			for out.Offset() < uint64(len(said)) {
				from := rapid.Uint64Range(0, out.Offset()).Draw(t, "from") // a shim may repeat itself
				to := rapid.Uint64Range(out.Offset()+1, uint64(len(said))).Draw(t, "to")
				if err := out.Write(t.Context(), from, false, said[from:to]); err != nil || out.Offset() != to {
					t.Fatalf("%d to %d: at %d, %v", from, to, out.Offset(), err)
				}
			}
			want = append(want, said...)
			if lost := rapid.Uint64Range(0, 3).Draw(t, "lost"); lost > 0 {
				if err := out.Gap(out.Offset(), out.Offset()+lost); err != nil {
					t.Fatal(err)
				}
				want = append(want, make([]byte, lost)...)
			}
		}
		if !bytes.Equal(log.text, want) {
			t.Fatalf("%q, want %q", log.text, want)
		}
	})
}

// A log that somebody cut does not go on as if it were whole.
func TestShiftedRefusesALogThatLacksSomething(t *testing.T) {
	out := shifted{&plainLog{text: []byte("abc")}, 5}
	if got := out.Offset(); got != 0 {
		t.Errorf("offset %d", got)
	}
	if err := out.Write(t.Context(), 0, false, []byte("x")); !errors.Is(err, errHole) {
		t.Errorf("%v", err)
	}
}
