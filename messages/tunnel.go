package messages

// OpenTunnel asks the tunnel actor for step 4: a fresh forward that ends at Socket on the host.
type OpenTunnel struct {
	Number uint64 // names the socket; never used twice in a session
	Socket string // path of the unix socket on the host
}

// TunnelKind is how the tunnel gets through the SSH connection.
type TunnelKind uint8

const (
	// TunnelForward is a streamlocal-forward@openssh.com.
	TunnelForward TunnelKind = iota + 1
	// TunnelStdio is an exec channel that carries the connections multiplexed.
	TunnelStdio
)

// String returns the kind in one word.
func (k TunnelKind) String() string {
	switch k {
	case TunnelForward:
		return "forward"
	case TunnelStdio:
		return "stdio"
	}
	return "none"
}

// TunnelOpened answers OpenTunnel.
type TunnelOpened struct {
	Number uint64
	Socket string
	Kind   TunnelKind
}

// CloseTunnel asks the tunnel actor for step 7.
type CloseTunnel struct{}

// TunnelClosed answers CloseTunnel: no connection of this tunnel is left at the gateway.
type TunnelClosed struct{}
