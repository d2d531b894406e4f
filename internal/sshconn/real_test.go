package sshconn

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// sshd is a real OpenSSH server on loopback, logging in the user who runs the tests.
type sshd struct {
	dir  string
	host inventory.Host
	key  ssh.PublicKey // of the host
}

func startSSHD(t *testing.T, config string, clients ...ssh.PublicKey) *sshd {
	t.Helper()
	return startSSHDWith(t, func(*sshd) {}, config, clients...)
}

// startSSHDWith lets prepare do something with the server's files before it starts.
func startSSHDWith(t *testing.T, prepare func(*sshd), config string, clients ...ssh.PublicKey) *sshd {
	t.Helper()
	// sshd insists on this directory when run by root.
	must(t, os.MkdirAll("/run/sshd", 0o755))
	s := &sshd{dir: t.TempDir()}
	must(t, os.Chmod(s.dir, 0o700))
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.dir+"/host")
	s.key = readPublic(t, s.dir+"/host.pub")
	prepare(s)
	var authorized bytes.Buffer
	for _, c := range clients {
		authorized.Write(ssh.MarshalAuthorizedKey(c))
	}
	writeFile(t, s.dir+"/authorized", authorized.String())
	addr := ownAddr(t)
	writeFile(t, s.dir+"/config", fmt.Sprintf(`ListenAddress %s
HostKey %s/host
AuthorizedKeysFile %s/authorized
StrictModes no
UsePAM no
PermitRootLogin yes
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
%s
`, addr, s.dir, s.dir, config))
	launch(t, addr.String(), "/usr/sbin/sshd", "-D", "-e", "-f", s.dir+"/config")
	me, err := user.Current()
	must(t, err)
	s.host = hostAt(addr)
	s.host.User, s.host.Password = me.Username, ""
	return s
}

// ownAddr is for a server that makes its socket itself: an address of the loopback that no other process uses, so that nobody takes the port
// before the server has it.
func ownAddr(t *testing.T) net.Addr {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 128+pid>>16, pid>>8&0xff, pid&0xff))
	must(t, err)
	addr := l.Addr()
	must(t, l.Close())
	return addr
}

// launch runs a server until the end of the test and waits until it takes connections on addr.
func launch(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is needed for this test: %v", program, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, log.String())
		}
	})
	eventually(t, program+" listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		// Until it spoke, so that this connection doesn't count as waiting any more.
		_, _ = bufio.NewReader(c).ReadString('\n')
		return c.Close() == nil
	})
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

func readPublic(t *testing.T, name string) ssh.PublicKey {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	must(t, err)
	return key
}

// newIdentity makes a key file with ssh-keygen.
func newIdentity(t *testing.T, args ...string) (path string, public ssh.PublicKey) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "id")
	if len(args) == 0 {
		args = []string{"-t", "ed25519", "-N", ""}
	}
	run(t, "ssh-keygen", append([]string{"-q", "-f", path}, args...)...)
	return path, readPublic(t, path+".pub")
}

func knownHosts(t *testing.T, address string, key ssh.PublicKey) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), knownhosts.Line([]string{knownhosts.Normalize(address)}, key)+"\n")
}

func TestRealSSHD(t *testing.T) {
	id, public := newIdentity(t)
	rsa, rsaPublic := newIdentity(t, "-t", "rsa", "-b", "2048", "-N", "")
	s := startSSHD(t, "", public, rsaPublic)
	o := Options{
		HostKeys: newHostKeys(t, HostKeyOptions{Files: []string{knownHosts(t, s.host.Address(), s.key)}}),
		Auth:     newAuth(t, AuthOptions{Identities: []string{id}}),
	}
	c := connect(t, o, s.host)
	if !strings.HasPrefix(c.ServerVersion(), "SSH-2.0-OpenSSH") {
		t.Error(c.ServerVersion())
	}
	realServer(t, c)
	// sftp answers its version.
	ch, err := c.Subsystem(t.Context(), "sftp")
	must(t, err)
	_, err = ch.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}) // SSH_FXP_INIT, version 3
	must(t, err)
	head := make([]byte, 5)
	_, err = io.ReadFull(ch, head)
	must(t, err)
	if head[4] != 2 { // SSH_FXP_VERSION
		t.Errorf("%v", head)
	}
	must(t, ch.Close())

	sock := filepath.Join(s.dir, "fwd.sock")
	l, err := c.ListenUnix(t.Context(), sock)
	must(t, err)
	client, err := net.Dial("unix", sock)
	must(t, err)
	conn, err := l.Accept()
	must(t, err)
	_, err = io.WriteString(client, "ping")
	must(t, err)
	must(t, client.(*net.UnixConn).CloseWrite())
	got, err := io.ReadAll(conn)
	must(t, err)
	_, err = conn.Write(append(got, "-pong"...))
	must(t, err)
	must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	got, err = io.ReadAll(client)
	must(t, err)
	if string(got) != "ping-pong" {
		t.Errorf("%q", got)
	}
	must(t, client.Close())
	must(t, conn.Close())
	must(t, l.Close())
	_, err = c.ListenUnix(t.Context(), filepath.Join(s.dir, "no/such/dir"))
	if wantFault(t, err, fault.Environment); !errors.Is(err, ErrForwardRefused) {
		t.Error(err)
	}

	o.Auth = newAuth(t, AuthOptions{Identities: []string{rsa}})
	connect(t, o, s.host)
	other, _ := newIdentity(t)
	o.Auth = newAuth(t, AuthOptions{Identities: []string{other}})
	_, err = dialer(t, o).Dial(t.Context(), s.host)
	wantFault(t, err, fault.Denied, "1 key", "publickey")
}

// realServer is what every server must do.
func realServer(t *testing.T, c *Conn) {
	t.Helper()
	var out, stderr bytes.Buffer
	must(t, c.Exec(t.Context(), Exec{Command: "cat; echo err >&2", Stdin: strings.NewReader(strings.Repeat("x", 300_000)), Stdout: &out, Stderr: &stderr}))
	if out.Len() != 300_000 || stderr.String() != "err\n" {
		t.Errorf("%d bytes, %q", out.Len(), stderr.String())
	}
	var exit *ExitError
	if err := c.Exec(t.Context(), Exec{Command: "echo no >&2; exit 42"}); !errors.As(err, &exit) || exit.Code != 42 || exit.Stderr != "no\n" {
		t.Errorf("%v", err)
	}
	if err := c.Exec(t.Context(), Exec{Command: "kill -TERM $$"}); !errors.As(err, &exit) || exit.Signal != "TERM" {
		t.Errorf("%v", err)
	}
}

func TestDropbear(t *testing.T) {
	id, public := newIdentity(t)
	me, err := user.Current()
	must(t, err)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700)) // Dropbear looks at the modes of the whole path below the home
	writeFile(t, dir+"/.ssh/authorized_keys", string(ssh.MarshalAuthorizedKey(public)))
	// Dropbear takes the keys from the home that stands in passwd, so it gets a passwd of its own, in a mount namespace.
	writeFile(t, dir+"/passwd", fmt.Sprintf("%s:x:%s:%s::%s:/bin/sh\n", me.Username, me.Uid, me.Gid, dir))
	must(t, os.Chmod(dir+"/passwd", 0o644))
	run(t, "dropbearkey", "-t", "ed25519", "-f", dir+"/host")
	addr := ownAddr(t)
	launch(t, addr.String(), "unshare", "--mount", "--propagation", "private", "sh", "-c",
		"mount --bind \"$0/passwd\" /etc/passwd && exec /usr/sbin/dropbear -F -E -r \"$0/host\" -P \"$0/pid\" -p \"$1\"", dir, addr.String())
	host := hostAt(addr)
	host.User, host.Password = me.Username, ""
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: Insecure}), Auth: newAuth(t, AuthOptions{Identities: []string{id}})}
	c := connect(t, o, host)
	realServer(t, c)
	_, err = c.ListenUnix(t.Context(), dir+"/fwd.sock")
	if wantFault(t, err, fault.Environment); !errors.Is(err, ErrForwardRefused) {
		t.Error(err)
	}
}

func TestAgent(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	sock := filepath.Join(t.TempDir(), "agent")
	agentd := exec.Command("ssh-agent", "-D", "-a", sock)
	must(t, agentd.Start())
	t.Cleanup(func() { _ = agentd.Process.Kill(); _ = agentd.Wait() })
	eventually(t, "the agent listens", func() bool {
		c, err := net.Dial("unix", sock)
		return err == nil && c.Close() == nil
	})
	auth := newAuth(t, AuthOptions{AgentSocket: sock})
	wantFault(t, auth.CheckMethods(noPassword), fault.Denied, "has no keys", "ssh-add")

	id, public := newIdentity(t, "-t", "rsa", "-b", "2048", "-N", "")
	add := exec.Command("ssh-add", "-q", id)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	must(t, add.Run())
	auth = newAuth(t, AuthOptions{AgentSocket: sock})
	must(t, auth.CheckMethods(noPassword))
	s := startSSHD(t, "MaxStartups 100", public)
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: Insecure}), Auth: auth}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			c, err := dialer(t, o).Dial(t.Context(), s.host)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	// Without the agent the explicit key does.
	o.Auth = newAuth(t, AuthOptions{AgentSocket: sock + "-gone", Identities: []string{id}})
	connect(t, o, s.host)
	o.Auth = newAuth(t, AuthOptions{AgentSocket: sock + "-gone"})
	wantFault(t, o.Auth.CheckMethods(noPassword), fault.Denied, "does not answer")
}

// answers is a Prompter with prepared answers.
type answers struct {
	mu    sync.Mutex
	list  []inventory.Secret
	asked []string
}

func (a *answers) Secret(_ context.Context, prompt string) (inventory.Secret, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, prompt)
	if len(a.list) == 0 {
		return "", fault.New(fault.Canceled, "ask", "canceled at the prompt")
	}
	next := a.list[0]
	a.list = a.list[1:]
	return next, nil
}

func TestEncryptedKey(t *testing.T) {
	id, public := newIdentity(t, "-t", "ed25519", "-a", "1", "-N", "open sesame") // one round: the real number is slow
	s := startSSHD(t, "MaxStartups 100", public)
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: Insecure})}
	prompter := &answers{list: []inventory.Secret{"wrong", "open sesame"}}
	o.Auth = newAuth(t, AuthOptions{Identities: []string{id}, Prompter: prompter})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c, err := dialer(t, o).Dial(context.Background(), s.host)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	if len(prompter.asked) != 2 {
		t.Errorf("asked %q", prompter.asked)
	}
	prompter = &answers{list: []inventory.Secret{"a", "b", "c", "open sesame"}}
	o.Auth = newAuth(t, AuthOptions{Identities: []string{id}, Prompter: prompter})
	for range 2 {
		_, err := dialer(t, o).Dial(context.Background(), s.host)
		wantFault(t, err, fault.Denied, "wrong passphrase")
	}
	if len(prompter.asked) != 3 {
		t.Errorf("asked %q", prompter.asked)
	}
	o.Auth = newAuth(t, AuthOptions{Identities: []string{id}, Prompter: &answers{}})
	_, err := dialer(t, o).Dial(context.Background(), s.host)
	wantFault(t, err, fault.Canceled)
	_, err = NewAuth(AuthOptions{Identities: []string{id}})
	if fault.KindOf(err) != fault.Denied {
		t.Errorf("%v", err)
	}
}

func TestBadIdentities(t *testing.T) {
	id, _ := newIdentity(t)
	dir := t.TempDir()
	for path, say := range map[string]string{
		id + ".pub":                       "public key",
		dir + "/missing":                  "no such file",
		dir:                               "directory",
		writeFile(t, dir+"/junk", "junk"): "no key found",
		writeFile(t, dir+"/pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("x")}))): "asn1",
	} {
		_, err := NewAuth(AuthOptions{Identities: []string{path}})
		if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v", path, err)
		}
	}
	t.Setenv("HOME", t.TempDir())
	wantFault(t, newAuth(t, AuthOptions{}).CheckMethods(noPassword), fault.Denied, "no authentication method")
}

func TestMaxStartups(t *testing.T) {
	s := startSSHD(t, "MaxStartups 1")
	o := insecure(t)
	// Until sshd has noticed that whoever looked whether it listens is gone, the one place is taken.
	for greeting := ""; !strings.HasPrefix(greeting, "SSH-"); {
		hold, err := net.Dial("tcp", s.host.Address())
		must(t, err)
		defer hold.Close()
		greeting, err = bufio.NewReader(hold).ReadString('\n')
		must(t, err)
	}
	_, err := dialer(t, o).Dial(t.Context(), s.host)
	wantFault(t, err, fault.Busy)
}
