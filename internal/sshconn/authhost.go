package sshconn

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// keyFiles are the key and certificate files that are said about hosts, each read once.
type keyFiles struct {
	mu           sync.Mutex
	identities   map[string]readIdentity
	certificates map[string]readCertificate
	agents       map[string]*sharedAgent
}

type readIdentity struct {
	id  *identity
	err error
}

type readCertificate struct {
	cert *ssh.Certificate
	err  error
}

// identity reads a key file. A public key will do where an agent has the private one.
func (k *keyFiles) identity(path string) (*identity, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, known := k.identities[path]
	if !known {
		if r.id, r.err = loadIdentity(path); r.err != nil {
			if public := publicOnly(path); public != nil {
				r = readIdentity{id: &identity{path: path, public: public, agentOnly: true, certificate: certificateBeside(path)}}
			}
		}
		if k.identities == nil {
			k.identities = map[string]readIdentity{}
		}
		k.identities[path] = r
	}
	return r.id, r.err
}

// publicOnly reads the public half of a key that is not here: the file itself, or the one beside where the private one should be.
func publicOnly(path string) ssh.PublicKey {
	if data, err := os.ReadFile(path); err == nil {
		public, _, _, _, err := ssh.ParseAuthorizedKey(data)
		if err != nil {
			return nil // a private key that is no good
		}
		return public
	}
	return publicBeside(path)
}

// all are the identities that could be read.
func (k *keyFiles) all() (ids []*identity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.identities {
		if r.id != nil {
			ids = append(ids, r.id)
		}
	}
	slices.SortFunc(ids, func(a, b *identity) int { return bytes.Compare([]byte(a.path), []byte(b.path)) })
	return ids
}

// certificate reads a certificate file.
func (k *keyFiles) certificate(path string) (*ssh.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, known := k.certificates[path]
	if !known {
		r.cert, r.err = loadCertificate(path)
		if k.certificates == nil {
			k.certificates = map[string]readCertificate{}
		}
		k.certificates[path] = r
	}
	return r.cert, r.err
}

// agent is the shared connection to the agent behind a socket.
func (k *keyFiles) agent(socket string) *sharedAgent {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.agents[socket]
	if a == nil {
		a = &sharedAgent{socket: socket}
		if k.agents == nil {
			k.agents = map[string]*sharedAgent{}
		}
		k.agents[socket] = a
	}
	return a
}

func (k *keyFiles) close() (errs []error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range k.agents {
		errs = append(errs, a.drop(nil))
	}
	return errs
}

// loadCertificate reads a user certificate as ssh-keygen -s writes it.
func loadCertificate(path string) (*ssh.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	cert, is := public.(*ssh.Certificate)
	if !is || cert.CertType != ssh.UserCert {
		return nil, fmt.Errorf("%s is no user certificate", path)
	}
	return cert, nil
}

// certificateBeside is the certificate that stands next to a key, nil where none does.
func certificateBeside(path string) *ssh.Certificate {
	cert, err := loadCertificate(path + "-cert.pub")
	if err != nil {
		return nil
	}
	return cert
}

// expired says why a certificate is of no use now; "" = it is of use.
func expired(cert *ssh.Certificate, now time.Time) string {
	unix := uint64(max(now.Unix(), 0))
	switch {
	case unix < cert.ValidAfter:
		return fmt.Sprintf("the certificate %q is valid from %v on", cert.KeyId, time.Unix(int64(cert.ValidAfter), 0))
	case cert.ValidBefore != ssh.CertTimeInfinity && unix >= cert.ValidBefore:
		return fmt.Sprintf("the certificate %q was valid until %v", cert.KeyId, time.Unix(int64(cert.ValidBefore), 0))
	}
	return ""
}

// agentFor is the agent for a host; nil = none.
func (a *Auth) agentFor(host inventory.Host) *sharedAgent {
	if host.SSH != nil {
		switch host.SSH.Agent {
		case "":
		case noFile:
			return nil
		case a.opts.AgentSocket:
		default:
			return a.files.agent(host.SSH.Agent)
		}
	}
	return a.agent
}

// identitiesFor are the keys for a host, in the order in which they count. named reports whether somebody said which; problems are
// why some can't be used.
func (a *Auth) identitiesFor(host inventory.Host) (ids []*identity, named bool, problems []error) {
	if len(a.opts.Identities) > 0 {
		ids, named = a.identities, true
	}
	if host.SSH != nil && host.SSH.Identities != nil {
		ids, named = slices.Clone(ids), true
		for _, path := range host.SSH.Identities {
			if path == noFile {
				continue
			}
			id, err := a.files.identity(path)
			switch {
			case err != nil:
				problems = append(problems, err)
			case id.pem != nil && a.opts.Prompter == nil && (id.public == nil || a.agentFor(host) == nil):
				problems = append(problems, fmt.Errorf("%s: %w", path, errNoPrompter))
			default:
				ids = append(ids, id)
			}
		}
	}
	if !named {
		ids = a.identities
	}
	return ids, named, problems
}

// certificatesFor are the certificates for a key.
func (l *login) certificatesFor(id *identity, public ssh.PublicKey) (certs []*ssh.Certificate) {
	all := []*ssh.Certificate{id.certificate}
	if s := l.hs.host.SSH; s != nil {
		for _, path := range s.Certificates {
			if path == noFile {
				continue
			}
			cert, err := l.auth.files.certificate(path)
			if err != nil {
				l.note(err)
				continue
			}
			all = append(all, cert)
		}
	}
	for _, cert := range all {
		if cert == nil || !bytes.Equal(cert.Key.Marshal(), public.Marshal()) {
			continue
		}
		if why := expired(cert, time.Now()); why != "" {
			l.note(fmt.Errorf("%s", why))
			continue
		}
		certs = append(certs, cert)
	}
	return certs
}

// offers are the keys of one login, each once.
type offers struct {
	host    inventory.Host
	seen    map[string]bool
	signers []ssh.Signer
}

func (o *offers) add(s ssh.Signer) {
	blob := string(s.PublicKey().Marshal())
	if !o.seen[blob] && pubkeyAllowed(o.host, s.PublicKey()) {
		o.seen[blob] = true
		o.signers = append(o.signers, s)
	}
}

// signers collects the keys for one dial: those that were named first, else the agent's before the default files. A key
// that stands twice is offered once, by the agent if that has it, which needs no passphrase. A certificate goes before its key.
func (a *Auth) signers(l *login) (signers []ssh.Signer, left int) {
	host := l.hs.host
	agent := a.agentFor(host)
	inAgent, err := agent.list(l.ctx)
	if err != nil {
		l.note(err) // others may do
	}
	ids, named, problems := a.identitiesFor(host)
	for _, err := range problems {
		l.note(err)
	}
	o := &offers{host: host, seen: map[string]bool{}}
	agents := map[string]ssh.Signer{}
	for _, key := range inAgent {
		agents[string(key.Marshal())] = &agentSigner{ctx: l.ctx, agent: agent, timeout: l.hs.timeout, key: key}
	}
	addFiles := func() {
		for _, id := range ids {
			l.offer(o, id, inAgent, agents)
		}
	}
	if named {
		addFiles()
	}
	if host.SSH == nil || !host.SSH.IdentitiesOnly {
		for _, key := range inAgent {
			o.add(agents[string(key.Marshal())])
		}
	}
	addFiles()
	limit := maxOffers
	if a.hasPassword(host) {
		limit--
	}
	if len(o.signers) > limit {
		return o.signers[:limit], len(o.signers) - limit
	}
	return o.signers, 0
}

// offer offers a key of a file, with its certificates before it.
func (l *login) offer(o *offers, id *identity, inAgent []ssh.PublicKey, agents map[string]ssh.Signer) {
	public, err := l.publicOf(id)
	if err != nil {
		l.note(err)
		return
	}
	for _, key := range inAgent { // certificates that only the agent has
		if cert, is := key.(*ssh.Certificate); is && bytes.Equal(cert.Key.Marshal(), public.Marshal()) {
			o.add(agents[string(key.Marshal())])
		}
	}
	signer := agents[string(public.Marshal())]
	if signer == nil {
		if id.agentOnly {
			l.note(fmt.Errorf("the private key of %s is neither there nor in the ssh-agent", id.path))
			return
		}
		signer = &lazySigner{login: l, id: id, public: public}
	}
	for _, cert := range l.certificatesFor(id, public) {
		certified, err := ssh.NewCertSigner(cert, signer)
		if err != nil {
			l.note(fmt.Errorf("certificate for %s: %w", id.path, err))
			continue
		}
		o.add(certified)
	}
	o.add(signer)
}
