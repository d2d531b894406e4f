package shim

import (
	"os"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// TestFramesOfNewerInitiators holds that what a newer initiator has to say besides is ignored, and so are words in a hello.
func TestFramesOfNewerInitiators(t *testing.T) {
	news := protowire.AppendBytes(protowire.AppendTag(nil, 4000, protowire.BytesType), []byte("news"))
	future := new(wire.Frame)
	future.ProtoReflect().SetUnknown(news)
	s := script(t, `echo up; read -r _ < fifo; echo down`)
	s.write()
	if err := syscall.Mkfifo(s.path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := s.welcome("start", func(h *wire.Hello) {
		h.MaxVersion = 9
		h.ProtoReflect().SetUnknown(news)
	})
	c.outputUntil("up\n")
	for id := range uint64(3) {
		c.send(future)
		c.send(&wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: id}}})
		if pong := c.recv().GetPong(); pong == nil || pong.Id != id {
			t.Fatalf("no pong %d: %v", id, pong)
		}
	}
	if err := os.WriteFile(s.path("fifo"), []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if out, _, exit := c.collect(3); out != "down\n" || exit.Code != 0 {
		t.Errorf("%q, %v", out, exit)
	}
	c.send(future)
	c.cleanUp()
	s.nothingLeft(s.dir)
}
