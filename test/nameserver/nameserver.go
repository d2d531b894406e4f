// Package nameserver is a small name server for tests.
package nameserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Server is a running name server. It counts what it is asked.
type Server struct {
	address string // host:port
	alias   map[string]string

	mu    sync.Mutex
	asked map[string]int
}

// Start starts a server that knows names, and aliases of some. It is stopped at the end of the test. Names that begin with "six" have IPv6
// addresses alone.
func Start(t testing.TB, alias map[string]string, names ...string) *Server {
	t.Helper()
	var conn net.PacketConn
	var err error
	for range 20 {
		if conn, err = net.ListenPacket("udp", fmt.Sprintf("127.%d.%d.%d:53", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))); err == nil {
			break
		}
	}
	if err != nil {
		if conn, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil { // without root
			t.Fatal(err)
		}
	}
	s := &Server{address: conn.LocalAddr().String(), alias: map[string]string{}, asked: map[string]int{}}
	for from, to := range alias {
		s.alias[from+"."] = to + "."
	}
	for _, n := range names {
		s.alias[n+"."] = ""
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(packet)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				if answer, err := s.answer(packet[:n]); err == nil {
					_, _ = conn.WriteTo(answer, from)
				}
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return s
}

func (s *Server) answer(packet []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals, m.RCode = true, true, nil, dnsmessage.RCodeNameError
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	s.mu.Lock()
	s.asked[name]++
	s.mu.Unlock()
	for {
		of, known := s.alias[name]
		if !known {
			break
		}
		m.RCode = dnsmessage.RCodeSuccess
		header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 1}
		if of != "" {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(of)}})
			name = of
			continue
		}
		six := strings.HasPrefix(name, "six")
		switch {
		case q.Type == dnsmessage.TypeA && !six:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}})
		case q.Type == dnsmessage.TypeAAAA && six:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}}})
		}
		break
	}
	return m.Pack()
}

// Asked is how many times a name was asked for.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name+"."]
}

// Resolver asks this server alone.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.address)
	}}
}

// Default makes all of this process ask this server until the end of the test.
func (s *Server) Default(t testing.TB) {
	t.Helper()
	before := net.DefaultResolver
	net.DefaultResolver = s.Resolver()
	t.Cleanup(func() { net.DefaultResolver = before })
}

// Through is what runs a program that has this name server alone, and the domain search.test to look in. Needs root.
func (s *Server) Through(t testing.TB) []string {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.address)
	if port != "53" {
		t.Fatal("a name server for other programs needs root: run the tests as root")
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+host+"\nsearch search.test\noptions timeout:5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file}
}
