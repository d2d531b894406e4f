package simhost

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Network is the hosts that can be dialled, by "addr:port". Addresses without a host refuse. Safe for concurrent use.
type Network struct {
	mu    sync.Mutex
	hosts map[string]*Host
}

// NewNetwork returns a network without hosts.
func NewNetwork() *Network { return &Network{hosts: map[string]*Host{}} }

// Add puts a host at an address, in place of the one there. The network doesn't own it.
func (n *Network) Add(addr string, h *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = h
}

// Remove takes the host at addr off the network; its connections stay.
func (n *Network) Remove(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, addr)
}

// DialContext is a NetDial for SSH clients. An unknown address answers ECONNREFUSED at once.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[addr]
	n.mu.Unlock()
	if h == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	c, err := h.NetDial(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return c, nil
}

// NetDial connects to the host in memory. Closing the result is the caller's.
func (h *Host) NetDial(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	near := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000} // TEST-NET-1, RFC 5737
	far := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 22}
	client, server := newPipe(near, far)
	if !h.accept(server) {
		_ = client.Close() // a pipe's Close never fails
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: far, Err: syscall.ECONNREFUSED}
	}
	return client, nil
}

// Serve accepts connections until the listener fails or is closed. It doesn't close the listener.
func (h *Host) Serve(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		if !h.accept(c) {
			return net.ErrClosed
		}
	}
}
