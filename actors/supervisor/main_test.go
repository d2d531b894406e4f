package supervisor_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(tidy{m}) }

// tidy removes what all rigs share when the tests are over.
type tidy struct{ *testing.M }

func (t tidy) Run() int {
	code := t.M.Run()
	if err := removePrepared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// files are what every rig reads from the disk. They are made before any bubble.
type files struct{ identity, known, program string }

var (
	prepared       = sync.OnceValues(prepare)
	removePrepared = func() error { return nil }
)

func prepare() (files, error) {
	dir, err := os.MkdirTemp("", "rig-")
	if err != nil {
		return files{}, err
	}
	removePrepared = func() error { return os.RemoveAll(dir) }
	f := files{filepath.Join(dir, "id"), filepath.Join(dir, "known_hosts"), filepath.Join(dir, "shim")}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return f, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return f, err
	}
	var lines strings.Builder
	for i := range 10 {
		lines.WriteString(knownhosts.Line([]string{fmt.Sprintf("h%d", i)}, simhost.DefaultHostKey().PublicKey()) + "\n")
	}
	for name, data := range map[string][]byte{
		f.identity: pem.EncodeToMemory(block), f.known: []byte(lines.String()), f.program: []byte(strings.Repeat("shim ", 1000)),
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return f, err
		}
	}
	return f, nil
}
