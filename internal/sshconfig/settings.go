package sshconfig

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// Settings are what the files say about a host in the form in which it is used: tokens, variables and "~" are replaced.
type Settings struct {
	Addr string // where the host is
	Port int    // 0 = not said
	User string // "" = not said
	Jump string // as ProxyJump; "" = not said, inventory.NoJump = none
	SSH  inventory.SSH
}

// fileTokens are those that names of files may have.
const fileTokens = "CLdhijklnpru"

// Settings returns the settings. The error is a fault that names file and line of what can't be used.
func (r *Result) Settings() (Settings, error) {
	s := settings{lookup: r.lookup}
	out := Settings{
		Addr: s.hostName(), User: s.first(User), Port: s.number(Port),
		Jump: s.one(ProxyJump, func(text string) (string, error) { return expandTokens(text, "hnpr", s.token) }),
	}
	if s.query.Port != 0 {
		out.Port = s.query.Port
	}
	if s.query.User != "" {
		out.User = s.query.User
	}
	if s.query.Jump != "" {
		out.Jump = s.query.Jump
	}
	ssh := &out.SSH
	ssh.Identities, ssh.Certificates = s.files(IdentityFile), s.files(CertificateFile)
	ssh.IdentitiesOnly = s.first(IdentitiesOnly) == "yes"
	ssh.Agent = s.one(IdentityAgent, s.agent)
	ssh.HostKeys = hostKeyPolicies[s.first(StrictHostKeyChecking)]
	ssh.HostKeyAlias = s.first(HostKeyAlias)
	ssh.KnownHosts = s.files(UserKnownHostsFile)
	ssh.GlobalKnownHosts = s.files(GlobalKnownHostsFile)
	ssh.KnownHostsCommand = s.knownHostsCommand()
	ssh.RevokedHostKeys = s.files(RevokedHostKeys)
	ssh.HashKnownHosts = s.first(HashKnownHosts) == "yes"
	ssh.ProxyCommand = s.one(ProxyCommand, s.command)
	ssh.ConnectTimeout, ssh.KeepaliveInterval = s.time(ConnectTimeout), s.time(ServerAliveInterval)
	if n := s.number(ServerAliveCountMax); n > 0 {
		ssh.KeepaliveCount = n
	}
	if family := s.first(AddressFamily); family != "any" {
		ssh.AddressFamily = family
	}
	ssh.BindAddress = s.first(BindAddress)
	ssh.Ciphers, ssh.KeyExchanges, ssh.MACs = s.first(Ciphers), s.first(KexAlgorithms), s.first(MACs)
	ssh.HostKeyAlgorithms, ssh.PubkeyAlgorithms = s.first(HostKeyAlgorithms), s.first(PubkeyAcceptedAlgorithms)
	if s.err != nil {
		return Settings{}, fault.Wrap(fault.Environment, "read ssh_config", s.err)
	}
	return out, nil
}

var hostKeyPolicies = map[string]string{"yes": "strict", "ask": "ask", "accept-new": "accept-new", "no": "insecure"}

// settings keeps the first error.
type settings struct {
	*lookup
	err error
}

// one is the value of a keyword, brought into its form.
func (s *settings) one(k Keyword, form func(string) (string, error)) string {
	v := s.result.values[k]
	if len(v) == 0 {
		return ""
	}
	return s.formed(k, v[0].Origin, v[0].Text[0], form)
}

func (s *settings) formed(k Keyword, at Origin, text string, form func(string) (string, error)) string {
	text, err := form(text)
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s: %s: %w", at, k, err)
	}
	return text
}

// files are all names of files that count.
func (s *settings) files(k Keyword) (names []string) {
	for _, v := range s.result.values[k] {
		for _, text := range v.Text {
			names = append(names, s.formed(k, v.Origin, text, s.path))
		}
	}
	return names
}

func (s *settings) path(text string) (string, error) {
	if strings.EqualFold(text, None) {
		return None, nil
	}
	text, err := expandTilde(text, s.config.local.Home)
	if err == nil {
		text, err = expandTokens(text, fileTokens, s.token)
	}
	if err == nil {
		text, err = expandEnv(text, s.config.local.Getenv)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(text) // a run may be continued from elsewhere
}

// Path is a name of a file of this machine as people write it, with "~" replaced, and absolute: a run may be continued from elsewhere.
func (c *Config) Path(text string) (string, error) {
	if strings.EqualFold(text, None) {
		return None, nil
	}
	text, err := expandTilde(text, c.local.Home)
	if err != nil {
		return "", err
	}
	return filepath.Abs(text)
}

func (s *settings) agent(text string) (string, error) {
	name := ""
	switch {
	case text == None:
		return None, nil
	case text == "SSH_AUTH_SOCK":
		name = text
	case strings.HasPrefix(text, "$") && !strings.HasPrefix(text, "${"):
		name = text[1:]
	default:
		return s.path(text)
	}
	socket, _ := s.config.local.Getenv(name)
	if socket == "" {
		return None, nil // as for ssh
	}
	return socket, nil
}

func (s *settings) command(text string) (string, error) {
	if strings.EqualFold(text, None) {
		return "", nil
	}
	return s.expandCommand(text, "hnpr")
}

func (s *settings) number(k Keyword) int {
	n, _ := strconv.Atoi(s.first(k)) // check has let numbers through only; none is 0
	return n
}

// time is negative where something is switched off.
func (s *settings) time(k Keyword) time.Duration {
	switch text := s.first(k); text {
	case "":
		return 0
	case None, "0":
		return -1
	}
	return time.Duration(s.number(k)) * time.Second
}
