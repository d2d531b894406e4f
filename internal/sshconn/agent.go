package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentTimeout bounds listing the keys. Signing has no limit of its own: the agent may ask a person.
const agentTimeout = 5 * time.Second

// agentListAge is how long a list of keys is good for, so that a fleet doesn't ask once per host.
const agentListAge = 5 * time.Second

// sharedAgent is the one connection to the ssh-agent. It is made when first needed and again when it broke.
type sharedAgent struct {
	socket string

	mu     sync.Mutex
	conn   net.Conn
	client agent.ExtendedAgent
	keys   []ssh.PublicKey
	listed time.Time
}

// client connects when necessary; it is called with mu held.
func (a *sharedAgent) connect(ctx context.Context) (agent.ExtendedAgent, error) {
	if a.client != nil {
		return a.client, nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.socket)
	if err != nil {
		return nil, err
	}
	a.conn, a.client = conn, agent.NewClient(conn)
	return a.client, nil
}

// drop forgets a connection that failed, unless somebody else already made a new one.
func (a *sharedAgent) drop(client agent.ExtendedAgent) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == nil || client != nil && a.client != client {
		return nil
	}
	err := a.conn.Close()
	a.conn, a.client, a.keys, a.listed = nil, nil, nil, time.Time{}
	return err
}

// list returns the agent's public keys.
func (a *sharedAgent) list(ctx context.Context) ([]ssh.PublicKey, error) {
	if a == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil && time.Since(a.listed) < agentListAge {
		return a.keys, nil
	}
	for attempt := range 2 {
		client, err := a.connect(ctx)
		if err != nil {
			return nil, err
		}
		// A blocked agent is interrupted by closing the connection to it.
		conn := a.conn
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		found, err := client.List()
		stop()
		if err == nil {
			a.keys = a.keys[:0:0]
			for _, key := range found {
				if public, err := ssh.ParsePublicKey(key.Blob); err == nil { // else a type that x/crypto doesn't know
					a.keys = append(a.keys, public)
				}
			}
			a.listed = time.Now()
			return a.keys, nil
		}
		_ = conn.Close()
		a.conn, a.client = nil, nil
		if attempt == 1 || ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, errors.New("unreachable")
}

// sign asks the agent, again over a new connection when the old one had broken. It returns when ctx ends; the request to the agent
// goes on until the agent answers or the connection to it is closed.
func (a *sharedAgent) sign(ctx context.Context, key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	type answer struct {
		sig *ssh.Signature
		err error
	}
	result := make(chan answer, 1)
	go func() {
		var last error
		for range 2 {
			a.mu.Lock()
			client, err := a.connect(ctx)
			a.mu.Unlock()
			if err != nil {
				result <- answer{nil, err}
				return
			}
			sig, err := client.SignWithFlags(key, data, flags)
			if err == nil {
				result <- answer{sig, nil}
				return
			}
			last = err
			if !isClosed(err) {
				break // the agent's own answer: refused, key gone
			}
			_ = a.drop(client) // broken already
		}
		result <- answer{nil, last}
	}()
	select {
	case r := <-result:
		if r.err != nil {
			return nil, fmt.Errorf("ssh-agent: %w", r.err)
		}
		return r.sig, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// agentSigner signs for one dial with a key in the agent.
type agentSigner struct {
	ctx     context.Context //nolint:containedctx // ssh.Signer takes none
	agent   *sharedAgent
	timeout time.Duration // a blocked agent must not block the dial
	key     ssh.PublicKey
}

func (s *agentSigner) PublicKey() ssh.PublicKey { return s.key }

func (s *agentSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

// SignWithAlgorithm makes x/crypto offer rsa-sha2: it takes a signer that has it for one that knows all algorithms of its key.
func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	defer cancel()
	return s.agent.sign(ctx, s.key, data, flags)
}
