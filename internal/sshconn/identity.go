package sshconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// maxTries is how often a person may mistype.
const maxTries = 3

// identity is a private key file. An encrypted one is opened when a server has accepted its public half.
type identity struct {
	path   string
	public ssh.PublicKey // nil: encrypted in a format that doesn't tell, and no .pub file beside it; never changes
	pem    []byte        // of an encrypted key, nil otherwise; never changes

	certificate *ssh.Certificate // that stands beside it, nil = none; never changes
	agentOnly   bool             // only the public half is here; never changes

	// Guarded by the Auth's turn.
	signer  ssh.Signer // nil until decrypted
	refused error      // why it stays closed: all tries were wrong
}

// defaultIdentities are the names that ssh(1) tries, less those of hardware keys, which need an agent.
var defaultIdentities = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// loadIdentity reads one file; what is wrong with it is told before any connection is made.
func loadIdentity(path string) (*identity, error) {
	fail := func(remedy, format string, args ...any) (*identity, error) {
		return nil, fault.New(fault.Denied, "read identity "+path, format, args...).WithRemedy("%s", remedy)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		remedy := "check the path"
		if errors.Is(err, fs.ErrPermission) {
			remedy = "make the file readable to you"
		}
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path is in the operation
		}
		return fail(remedy, "%w", err)
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey(firstLineOf(data)); err == nil {
		return fail("name the private key, usually "+strings.TrimSuffix(path, ".pub"), "this is a public key")
	}
	signer, err := ssh.ParsePrivateKey(data)
	var missing *ssh.PassphraseMissingError
	switch {
	case err == nil:
		return &identity{path: path, public: signer.PublicKey(), signer: signer, certificate: certificateBeside(path)}, nil
	case errors.As(err, &missing):
		public := missing.PublicKey
		if public == nil {
			public = publicBeside(path)
		}
		return &identity{path: path, public: public, pem: data, certificate: certificateBeside(path)}, nil
	}
	return fail("give an unencrypted or encrypted private key in OpenSSH or PEM format", "%w", err)
}

func firstLineOf(data []byte) []byte {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return line
}

func publicBeside(path string) ssh.PublicKey {
	data, err := os.ReadFile(path + ".pub")
	if err != nil {
		return nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil
	}
	return public
}

// loadIdentities reads the explicit files, each of which must be good, or the default ones, of which those that can be used are taken.
func loadIdentities(explicit []string) ([]*identity, error) {
	if len(explicit) == 0 {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil //nolint:nilerr // no home, no default keys
		}
		var found []*identity
		for _, name := range defaultIdentities {
			if id, err := loadIdentity(filepath.Join(home, ".ssh", name)); err == nil {
				found = append(found, id)
			}
		}
		return found, nil
	}
	var ids []*identity
	var problems []error
	for _, path := range explicit {
		id, err := loadIdentity(path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		ids = append(ids, id)
	}
	return ids, errors.Join(problems...)
}

// open decrypts the key, asking at most once for all hosts. It is called with the Auth's turn.
func (id *identity) open(ctx context.Context, prompter Prompter) (ssh.Signer, error) {
	if id.signer != nil || id.refused != nil {
		return id.signer, id.refused
	}
	if prompter == nil {
		return nil, errNoPrompter
	}
	prompt := fmt.Sprintf("Passphrase for %s: ", id.path)
	for range maxTries {
		passphrase, err := prompter.Secret(ctx, prompt)
		if err != nil {
			return nil, err
		}
		signer, err := parseEncrypted(id.pem, passphrase)
		if err == nil {
			id.signer = signer
			return signer, nil
		}
		prompt = fmt.Sprintf("Wrong. Passphrase for %s: ", id.path)
	}
	id.refused = fmt.Errorf("wrong passphrase for %s, %d times", id.path, maxTries)
	return nil, id.refused
}

func parseEncrypted(pem []byte, passphrase inventory.Secret) (ssh.Signer, error) {
	return ssh.ParsePrivateKeyWithPassphrase(pem, []byte(passphrase.Reveal()))
}

var errNoPrompter = errors.New("the key is encrypted and there is nobody to ask for its passphrase")

// lazySigner signs for one dial with a key that may have to be decrypted first.
type lazySigner struct {
	login  *login
	id     *identity
	public ssh.PublicKey
}

func (s *lazySigner) PublicKey() ssh.PublicKey { return s.public }

func (s *lazySigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

func (s *lazySigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := s.login.openIdentity(s.id)
	if err != nil {
		return nil, err
	}
	if with, ok := signer.(ssh.AlgorithmSigner); ok {
		return with.SignWithAlgorithm(rand, data, algorithm)
	}
	return signer.Sign(rand, data)
}
