package exec

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// fromTheFuture is a frame of a kind that this version doesn't know.
func fromTheFuture() *wire.Frame {
	f := new(wire.Frame)
	raw := protowire.AppendTag(nil, 4000, protowire.BytesType)
	f.ProtoReflect().SetUnknown(protowire.AppendBytes(raw, []byte("news")))
	return f
}

// memory is an Output that keeps everything.
type memory struct{ text []byte }

func (m *memory) Offset() uint64 { return uint64(len(m.text)) }

func (m *memory) Write(_ context.Context, offset uint64, _ bool, data []byte) error {
	m.text = append(m.text[:offset], data...)
	return nil
}

func (m *memory) Gap(uint64, uint64) error { return nil }

func (m *memory) Sync() error { return nil }

// shimSays returns an attachment to a shim that prints a marker, reads a hello and then sends frames.
func shimSays(t *testing.T, marker string, frames ...*wire.Frame) *attachment {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		defer theirs.Close()
		if _, err := io.WriteString(theirs, "\n"+marker+"\n"); err != nil {
			ended <- err
			return
		}
		shim := wire.NewConn(theirs)
		hello, err := shim.Recv()
		if err == nil && hello.GetHello() == nil {
			err = errors.New("the first frame is no hello")
		}
		for _, f := range frames {
			if err == nil {
				err = shim.Send(f)
			}
		}
		ended <- err
	}()
	a := &attachment{conn: wire.NewConn(ours), out: make(chan *wire.Frame, queueLength)}
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestFramesOfNewerShims holds that what a newer shim has to say besides is no reason to lose what we understand, wherever it comes.
func TestFramesOfNewerShims(t *testing.T) {
	marker, out := wire.NewMarker(), &memory{}
	output := func(offset uint64, text string) *wire.Frame {
		return &wire.Frame{Kind: &wire.Frame_Output{Output: &wire.Output{Offset: offset, Data: []byte(text)}}}
	}
	a := shimSays(t, marker,
		fromTheFuture(), &wire.Frame{Kind: &wire.Frame_Welcome{Welcome: &wire.Welcome{Version: 1, PayloadPid: 7}}},
		fromTheFuture(), output(0, "one "), fromTheFuture(), output(4, "two"),
		&wire.Frame{Kind: &wire.Frame_Exit{Exit: &wire.Exit{Code: 3, OutputEnd: 7}}}, fromTheFuture(),
	)
	welcome, err := a.greet(Config{Output: out}, marker)
	if err != nil || welcome.GetPayloadPid() != 7 {
		t.Fatalf("%v, %v", welcome, err)
	}
	var told []any
	if err := a.read(t.Context(), out, func(m any) { told = append(told, m) }); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if string(out.text) != "one two" || len(told) != 1 {
		t.Errorf("output %q, told %v", out.text, told)
	}
	if exit, ok := told[0].(exitSeen); !ok || exit.exit.Code != 3 {
		t.Errorf("told %v", told)
	}
}

// TestRefusals holds what a shim's no means, also one whose reason only a newer version knows.
func TestRefusals(t *testing.T) {
	for reason, want := range map[wire.Refused_Reason]struct {
		kind  fault.Kind
		words []string
	}{
		wire.Refused_VERSION:    {fault.Environment, []string{"protocol version", "because", "the version of mgmt-remote that started it"}},
		wire.Refused_FENCED:     {fault.Canceled, []string{"because"}},
		wire.Refused_EVICTED:    {fault.Canceled, []string{"because"}},
		wire.Refused_NO_SESSION: {fault.Environment, []string{"gone", "because"}},
		wire.Refused_BAD_TOKEN:  {fault.Environment, []string{"BAD_TOKEN", "because"}},
		99:                      {fault.Environment, []string{"99", "because"}},
	} {
		marker := wire.NewMarker()
		a := shimSays(t, marker, &wire.Frame{Kind: &wire.Frame_Refused{Refused: &wire.Refused{Reason: reason, Text: "because"}}})
		_, err := a.greet(Config{Output: &memory{}}, marker)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Kind != want.kind {
			t.Errorf("%v: %v", reason, err)
			continue
		}
		said := f.Error() + " " + f.Remedy
		if slices.ContainsFunc(want.words, func(word string) bool { return !strings.Contains(said, word) }) {
			t.Errorf("%v: %q lacks one of %q", reason, said, want.words)
		}
	}
}

// lost is a stream that prints some noise and breaks then, as a channel does whose connection is gone.
type lost struct{ io.ReadWriteCloser }

func (l lost) Read(p []byte) (int, error) {
	n, err := l.ReadWriteCloser.Read(p)
	if errors.Is(err, io.EOF) {
		err = fault.New(fault.Lost, "keep the connection", "reset by peer")
	}
	return n, err
}

// TestLostBeforeTheMarker holds that a connection that breaks before the shim says anything is lost, which is no reason to give a host up.
func TestLostBeforeTheMarker(t *testing.T) {
	ours, theirs := net.Pipe()
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(theirs, "Welcome!\n")
		wrote <- errors.Join(err, theirs.Close())
	}()
	a := &attachment{conn: wire.NewConn(lost{ours})}
	_, err := a.greet(Config{Output: &memory{}}, wire.NewMarker())
	if fault.KindOf(err) != fault.Lost {
		t.Errorf("%v: %v", fault.KindOf(err), err)
	}
	if err := errors.Join(<-wrote, a.Close()); err != nil {
		t.Error(err)
	}
}
