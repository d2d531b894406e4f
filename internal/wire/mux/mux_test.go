package mux

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// socketPair returns two ends of a real unix connection, which unlike net.Pipe can be half-closed.
func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ca, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cb, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ca.Close(), cb.Close() })
	return ca.(*net.UnixConn), cb.(*net.UnixConn)
}

func TestHalfCloseGoesThroughUnixAndYamux(t *testing.T) {
	left, right := socketPair(t) // the SSH channel
	client, err := Client(left)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := Server(right)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	peer, mine := socketPair(t) // the payload's connection
	var wg sync.WaitGroup
	wg.Go(func() { // the shim
		st, err := client.Open()
		if err != nil {
			t.Error(err)
			return
		}
		Relay(mine, st)
	})
	question := bytes.Repeat([]byte("q"), 1<<20)
	answer := bytes.Repeat([]byte("a"), 1<<20)
	wg.Go(func() { // the initiator answers only after it saw the end of the question
		st, err := server.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		got, err := io.ReadAll(st)
		if err != nil || !bytes.Equal(got, question) {
			t.Errorf("question: %d bytes, %v", len(got), err)
		}
		if _, err := st.Write(answer); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := peer.Write(question); err != nil {
		t.Fatal(err)
	}
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("answer: %d bytes, %v", len(got), err)
	}
	wg.Wait()
}

func TestRelayEndsWhenOneSideIsCut(t *testing.T) {
	peer, a := socketPair(t)
	far, b := socketPair(t)
	ended := make(chan struct{})
	go func() { defer close(ended); Relay(a, b) }()
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = b.Close() // cut from outside, as a newer epoch does
	if _, err := peer.Read(make([]byte, 1)); err == nil {
		t.Error("the peer's connection is still open")
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the relay still runs")
	}
}
