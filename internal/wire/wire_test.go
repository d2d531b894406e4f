package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
)

// stream is one end of a recorded conversation.
type stream struct {
	io.Reader
	io.Writer
}

func (stream) Close() error { return nil }

func TestSendAndReceive(t *testing.T) {
	var buf bytes.Buffer
	c := NewConn(stream{&buf, &buf})
	sent := []*Frame{
		{Kind: &Frame_Hello{Hello: &Hello{MinVersion: 1, MaxVersion: 3, Token: "t", Fence: 1 << 63, OutputFrom: 7}}},
		{},
		{Kind: &Frame_Output{Output: &Output{Offset: 9, Stderr: true, Data: bytes.Repeat([]byte{0, 255}, 100_000)}}},
		{Kind: &Frame_Exit{Exit: &Exit{Code: -1, Signal: 9}}},
	}
	for _, f := range sent {
		if err := c.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range sent {
		got, err := c.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("frame %d: got %v, want %v", i, got, want)
		}
	}
	if _, err := c.Recv(); err != io.EOF { //nolint:errorlint // promised unwrapped
		t.Errorf("at the end: got %v, want io.EOF itself", err)
	}
}

func TestRecvRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want error
	}{
		"cut length":   {"\x00\x00", io.ErrUnexpectedEOF},
		"cut frame":    {"\x00\x00\x00\x05ab", io.ErrUnexpectedEOF},
		"nothing left": {"\x00\x00\x00\x05", io.ErrUnexpectedEOF},
		"too large":    {"\x00\x10\x00\x01", ErrFrameTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewConn(stream{strings.NewReader(tc.in), io.Discard}).Recv()
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := NewConn(stream{strings.NewReader("\x00\x00\x00\x01\xff"), io.Discard}).Recv(); err == nil {
		t.Error("bytes that are no frame are accepted")
	}
}

func TestSendTooLargeKeepsTheStream(t *testing.T) {
	var buf bytes.Buffer
	c := NewConn(stream{&buf, &buf})
	big := &Frame{Kind: &Frame_Output{Output: &Output{Data: make([]byte, MaxFrame)}}}
	if err := c.Send(big); !errors.Is(err, ErrFrameTooLarge) {
		t.Fatalf("got %v, want ErrFrameTooLarge", err)
	}
	if err := c.Send(&Frame{Kind: &Frame_Ping{Ping: &Ping{Id: 4}}}); err != nil {
		t.Fatal(err)
	}
	f, err := c.Recv()
	if err != nil || f.GetPing().GetId() != 4 {
		t.Errorf("got %v, %v; want the ping", f, err)
	}
}

// failing breaks in the middle of a frame and would work again afterwards.
type failing struct {
	bytes.Buffer
	calls int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.calls++; f.calls == 1 {
		n, _ := f.Buffer.Write(p[:1])
		return n, io.ErrClosedPipe
	}
	return f.Buffer.Write(p)
}
func (*failing) Close() error { return nil }

func TestNothingFollowsHalfAFrame(t *testing.T) {
	f := new(failing)
	c := NewConn(f)
	for range 2 {
		if err := c.Send(&Frame{Kind: &Frame_Ping{Ping: &Ping{Id: 1}}}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want the first error", err)
		}
	}
	if f.calls != 1 {
		t.Errorf("%d writes, want 1", f.calls)
	}
}

func TestConcurrentSend(t *testing.T) {
	a, b := net.Pipe()
	ca, cb := NewConn(a), NewConn(b)
	const senders, each = 8, 50
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := ca.Send(&Frame{Kind: &Frame_Ping{Ping: &Ping{Id: uint64(s*each + i)}}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[uint64]bool{}
	for range senders * each {
		f, err := cb.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen[f.GetPing().GetId()] = true
	}
	wg.Wait()
	if len(seen) != senders*each {
		t.Errorf("%d different frames, want %d", len(seen), senders*each)
	}
	if err := errors.Join(ca.Close(), cb.Close()); err != nil {
		t.Error(err)
	}
}

func TestSkipTo(t *testing.T) {
	const m = "mgmt-remote-X1"
	for name, tc := range map[string]struct {
		in, rest string
		ok       bool
	}{
		"clean":           {"\n" + m + "\nrest", "rest", true},
		"at the start":    {m + "\nrest", "rest", true},
		"banner":          {"Welcome!\nno newline\n" + m + "\nrest", "rest", true},
		"echoed command":  {"+ shim start /d " + m + "\n" + m + " \n" + m + m + "\n" + m + "\nrest", "rest", true},
		"twice":           {m + "\n" + m + "\n", m + "\n", true},
		"carriage return": {m + "\r\n", "", false},
		"cut":             {"\n" + m, "", false},
		"empty":           {"", "", false},
		"too much noise":  {strings.Repeat("x", 300) + "\n" + m + "\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(tc.in))
			err := SkipTo(r, m, 256)
			if !tc.ok {
				if !errors.Is(err, ErrNoMarker) {
					t.Errorf("got %v, want ErrNoMarker", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(r); err != nil || string(rest) != tc.rest {
				t.Errorf("rest %q, %v; want %q", rest, err, tc.rest)
			}
		})
	}
}

func TestAfterMarkerKeepsWhatFollows(t *testing.T) {
	m := NewMarker()
	rw, err := AfterMarker(stream{strings.NewReader("motd\n" + m + "\npayload"), io.Discard}, m, MaxNoise)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(rw); err != nil || string(rest) != "payload" {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestNegotiate(t *testing.T) {
	for _, tc := range []struct {
		lowest, highest, want uint32
	}{
		{1, 1, 1}, {1, 9, 1}, {0, 1, 1}, {2, 3, 0}, {0, 0, 0}, {3, 1, 0},
	} {
		v, err := Negotiate(tc.lowest, tc.highest)
		if v != tc.want || (err == nil) != (tc.want != 0) {
			t.Errorf("Negotiate(%d, %d) = %d, %v; want %d", tc.lowest, tc.highest, v, err, tc.want)
		}
	}
}

func FuzzRecv(f *testing.F) {
	var buf bytes.Buffer
	c := NewConn(stream{&buf, &buf})
	for _, fr := range []*Frame{
		{Kind: &Frame_Hello{Hello: NewHello()}},
		{Kind: &Frame_Output{Output: &Output{Offset: 1, Data: []byte("abc")}}},
		{Kind: &Frame_Refused{Refused: &Refused{Reason: Refused_EVICTED, Text: "gone"}}},
	} {
		if err := c.Send(fr); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(buf.Bytes()))
	}
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := NewConn(stream{bytes.NewReader(in), io.Discard})
		for {
			fr, err := c.Recv()
			if err != nil {
				return
			}
			// What was understood can be sent again and means the same.
			var out bytes.Buffer
			again := NewConn(stream{&out, &out})
			if err := again.Send(fr); err != nil {
				t.Fatalf("send what was received: %v", err)
			}
			back, err := again.Recv()
			if err != nil || !proto.Equal(fr, back) {
				t.Fatalf("%v became %v (%v)", fr, back, err)
			}
		}
	})
}

func FuzzSkipTo(f *testing.F) {
	f.Add("Welcome\n", "after")
	f.Add("MARK", "")
	f.Add("MARK MARK\nMAR", "MARK\n")
	f.Fuzz(func(t *testing.T, noise, rest string) {
		const m = "MARK"
		if strings.Contains("\n"+noise+"\n", "\n"+m+"\n") {
			return // the noise forges a marker
		}
		r := bufio.NewReader(strings.NewReader(noise + "\n" + m + "\n" + rest))
		if err := SkipTo(r, m, len(noise)+len(m)+2); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != rest {
			t.Fatalf("rest %q, %v; want %q", got, err, rest)
		}
		// One byte less is not enough.
		r = bufio.NewReader(strings.NewReader(noise + "\n" + m + "\n"))
		if err := SkipTo(r, m, len(noise)+len(m)+1); !errors.Is(err, ErrNoMarker) {
			t.Fatalf("got %v within a limit that is too small", err)
		}
	})
}
