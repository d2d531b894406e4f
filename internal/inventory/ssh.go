package inventory

import "time"

// SSH is how the connection to one host is made, where something was said about it. Zero values say nothing, and what is
// used for all hosts counts then. Nobody changes one that a Host points to: hosts share them.
type SSH struct {
	Identities     []string `json:"identities,omitempty"`      // private key files, "none" among them is no file
	IdentitiesOnly bool     `json:"identities_only,omitempty"` // offer no other keys, not those of the agent either
	Certificates   []string `json:"certificates,omitempty"`    // files, beside the ones that stand next to keys
	Agent          string   `json:"agent,omitempty"`           // the agent's socket, "none" is no agent

	HostKeys         string   `json:"host_keys,omitempty"` // strict, ask, accept-new or insecure
	HostKeyAlias     string   `json:"host_key_alias,omitempty"`
	KnownHosts       []string `json:"known_hosts,omitempty"` // files; new keys go to the first one. "none" is no file
	GlobalKnownHosts []string `json:"global_known_hosts,omitempty"`
	// KnownHostsCommand is a program and its arguments, which have %H, %I, %K, %f and %t about a key in them.
	KnownHostsCommand []string `json:"known_hosts_command,omitempty"`
	RevokedHostKeys   []string `json:"revoked_host_keys,omitempty"` // files; "none" is no file
	HashKnownHosts    bool     `json:"hash_known_hosts,omitempty"`

	ProxyCommand      string        `json:"proxy_command,omitempty"`         // its stdio is the connection; a line for the shell, tokens replaced
	ConnectTimeout    time.Duration `json:"connect_timeout_ns,omitempty"`    // negative is none
	KeepaliveInterval time.Duration `json:"keepalive_interval_ns,omitempty"` // negative is none
	KeepaliveCount    int           `json:"keepalive_count,omitempty"`
	AddressFamily     string        `json:"address_family,omitempty"` // inet or inet6
	BindAddress       string        `json:"bind_address,omitempty"`

	// Lists as ssh_config has them, with "+", "-" or "^" in front.
	Ciphers           string `json:"ciphers,omitempty"`
	KeyExchanges      string `json:"key_exchanges,omitempty"`
	MACs              string `json:"macs,omitempty"`
	HostKeyAlgorithms string `json:"host_key_algorithms,omitempty"`
	PubkeyAlgorithms  string `json:"pubkey_algorithms,omitempty"`
}
