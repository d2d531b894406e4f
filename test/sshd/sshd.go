package sshd

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

// Options of a server. The zero value is a plain server with SFTP.
type Options struct {
	// Config are lines of sshd_config that come before the harness's own. sshd takes the first value of a keyword, so
	// they win: "MaxSessions 1", "AllowStreamLocalForwarding no".
	Config []string
	// NoSFTP leaves the sftp subsystem out.
	NoSFTP bool
	// Args are further arguments of the server program; for Dropbear, which has no configuration file ("-k").
	Args []string
	// OwnVarTmp gives the server a /var/tmp of its own, Server.VarTmp, in a mount namespace. Needs root.
	OwnVarTmp bool
	// NetNS is the network namespace (as in `ip netns`) that the server is in, and Listen its address there. Empty: the test's own,
	// and 127.0.0.1. Needs root. The port is then always 22, and the server can be rebooted: see Server.Reboot.
	NetNS, Listen string
	// Users are accounts that exist for the server alone; the first one logs in. Sudoers and DoasConf say for the server whom they may become:
	// a file of /etc/sudoers.d, and /etc/doas.conf. Needs root.
	Users             []string
	Sudoers, DoasConf string
	Shell             string // login shell of Users; "" = /bin/sh
	// Hide are programs that the server and its sessions do not have. Needs root.
	Hide []string
}

// Server is a running server and its files.
type Server struct {
	Addr           string // 127.0.0.1:PORT, or as Options.Listen says
	Port           int
	User           string // who may log in: the user of this process
	Home           string // HOME of commands, empty at first, 0700
	KeyFile        string // private key of the client, 0600
	KnownHostsFile string
	HostKey        ssh.PublicKey
	LogFile        string
	etc            string // what is /etc for the server; empty without Options.Users
	VarTmp         string // what is /var/tmp for commands, as others see it; empty without Options.OwnVarTmp

	t          testing.TB
	program    string
	args       func(port int) []string
	mounts     [][2]string // bind mounts in a namespace of the server's own: what, where
	netns      string      // network namespace; empty = the test's own
	listen     string      // address
	port       int         // the server's for its whole life, running or not
	authorized string      // the client's public key
	bootID     string      // file that is the kernel's boot ID for the server and its sessions; empty = the machine's own
	ready      string      // what the log says when the server listens

	mu   sync.Mutex
	cmd  *exec.Cmd // nil when stopped
	done chan struct{}
}

// patience bounds every wait for a server. It is no measurement: the machine may be busy.
const patience = time.Minute

// Start starts OpenSSH's sshd. It is stopped at the end of the test, before t's directories are removed.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, dir := prepare(t, "sshd", "openssh-server", o)
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatalf("sshd: %v", err)
		}
	}
	config := append([]string(nil), o.Config...)
	if !o.NoSFTP {
		config = append(config, "Subsystem sftp internal-sftp")
	}
	config = append(config,
		"HostKey "+dir+"/host_key",
		"AuthorizedKeysFile "+s.authorized,
		// sshd takes the home from the user database and applies SetEnv after it, so HOME is ours. Its first working
		// directory stays the real home.
		`SetEnv HOME="`+s.Home+`"`,
		"PidFile none", "StrictModes no", "UsePAM no", "LogLevel VERBOSE", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "PrintMotd no",
	)
	file := filepath.Join(dir, "sshd_config")
	write(t, file, strings.Join(config, "\n")+"\n")
	s.ready = "Server listening on " + s.listen + " port "
	s.args = func(port int) []string {
		return append([]string{"-D", "-f", file, "-E", s.LogFile, "-o", fmt.Sprintf("ListenAddress=%s:%d", s.listen, port)}, o.Args...)
	}
	s.launch()
	return s
}

// prepare finds the program, makes keys and files, and registers the end.
func prepare(t testing.TB, program, debianPackage string, o Options) (*Server, string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + program); err != nil {
			t.Fatalf("%s is not installed: install %s: make deps", program, debianPackage)
		}
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &Server{User: u.Username, Home: filepath.Join(dir, "home"), KeyFile: filepath.Join(dir, "id_ed25519"),
		KnownHostsFile: filepath.Join(dir, "known_hosts"), LogFile: filepath.Join(dir, "log"), t: t, program: path,
		netns: o.NetNS, listen: cmp.Or(o.Listen, "127.0.0.1")}
	if err := os.Mkdir(s.Home, 0o700); err != nil {
		t.Fatal(err)
	}
	if o.OwnVarTmp {
		// Not below t.TempDir: that is closed to other users, so that what they can't reach would prove nothing.
		if s.VarTmp, err = os.MkdirTemp("", "vartmp"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(s.VarTmp); err != nil {
				t.Error(err)
			}
		})
		if err := os.Chmod(s.VarTmp, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		s.mounts = append(s.mounts, [2]string{s.VarTmp, "/var/tmp"})
	}
	for _, path := range o.Hide {
		s.mounts = append(s.mounts, [2]string{"/dev/null", path}) // is not executable
	}
	if len(o.Users) > 0 {
		s.ownEtc(t, dir, o)
	}
	if s.netns != "" {
		s.bootID = filepath.Join(dir, "boot_id")
		s.newBoot()
		s.mounts = append(s.mounts, [2]string{s.bootID, "/proc/sys/kernel/random/boot_id"})
	}
	if s.port, err = s.reservePort(); err != nil {
		t.Fatalf("a port for %s: %v", program, err)
	}
	s.HostKey = makeKey(t, filepath.Join(dir, "host_key"))
	client := makeKey(t, s.KeyFile)
	s.authorized = filepath.Join(dir, "authorized_keys")
	if s.etc != "" {
		s.authorized = "/etc/authorized_keys"
		s.etcFile("authorized_keys", string(ssh.MarshalAuthorizedKey(client)), 0o644) // in a place that the user can read
	} else {
		write(t, s.authorized, string(ssh.MarshalAuthorizedKey(client)))
	}
	write(t, s.LogFile, "")
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", program, s.Log())
		}
	})
	return s, dir
}

func makeKey(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(pem.EncodeToMemory(block)))
	return signer.PublicKey()
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// launch starts the server on its port.
func (s *Server) launch() {
	s.t.Helper()
	if err := s.run(s.port); err != nil {
		s.t.Fatalf("cannot start %s: %v", s.program, err)
	}
	s.Port, s.Addr = s.port, fmt.Sprintf("%s:%d", s.listen, s.port)
	write(s.t, s.KnownHostsFile, knownhosts.Line([]string{knownhosts.Normalize(s.Addr)}, s.HostKey)+"\n")
}

// run starts the program and waits until its log says that it listens, not until somebody answers at the port: that could
// be another process.
func (s *Server) run(port int) error {
	from := len(s.Log())
	cmd := exec.Command(s.program, s.args(port)...) // ended by Stop
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.unshare(cmd)
	log, err := os.OpenFile(s.LogFile, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	if cerr := log.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in the log
	}()
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if strings.Contains(s.Log()[from:], s.ready) {
			return nil
		}
		select {
		case <-done:
			s.end(syscall.SIGKILL)
			return errors.New("it ended: " + s.Log()[from:])
		case <-deadline.C:
			s.end(syscall.SIGKILL)
			return errors.New("it doesn't listen")
		case <-tick.C:
		}
	}
}

// Log returns the server's log so far.
func (s *Server) Log() string {
	data, err := os.ReadFile(s.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// PID of the listening process, 0 when it is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Restart ends the listening process and starts it again on the same port. Open sessions live on, as after `systemctl
// restart ssh`. (With Dropbear, too.)
func (s *Server) Restart() {
	s.t.Helper()
	s.end(syscall.SIGTERM)
	if err := s.run(s.port); err != nil {
		s.t.Fatalf("cannot restart %s: %v", s.program, err)
	}
}

// unshare makes the server's mounts, in a mount namespace of its own, and enters its network namespace. Nobody outside sees them.
func (s *Server) unshare(cmd *exec.Cmd) {
	if len(s.mounts) == 0 && s.netns == "" {
		return
	}
	if os.Geteuid() != 0 {
		s.t.Fatalf("%s needs root for namespaces of its own: run the tests as root", s.program)
	}
	// The words come as arguments, so nothing needs quoting. exec keeps the PID.
	script, words := "", []string{"sh"}
	for _, m := range s.mounts {
		script += `mount --bind "$1" "$2" && shift 2 && `
		words = append(words, m[0], m[1])
	}
	if s.netns != "" {
		words = append(words, "ip", "netns", "exec", s.netns)
	}
	words = append(append(words, cmd.Path), cmd.Args[1:]...)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", script + `exec "$@"`}, words...)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS // Go makes the mounts private then
}

// Owns reports whether the server itself or one of its sessions is this process, not something that a session started.
func (s *Server) Owns(p leftovers.Process) bool {
	return p.PID == s.PID() || strings.HasPrefix(filepath.Base(p.Executable), filepath.Base(s.program))
}

// KillSessions kills (SIGKILL) the processes of the server that serve connections and returns how many there were. What the
// sessions started isn't touched, nor is the listening process. Sessions that outlived a Restart are no children any more and
// are not found.
func (s *Server) KillSessions() int {
	s.t.Helper()
	sessions, err := s.sessions()
	if err != nil {
		s.t.Fatalf("list sessions of %s: %v", s.program, err)
	}
	for _, p := range sessions {
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Errorf("kill %v: %v", p, err)
		}
	}
	return len(sessions)
}

// sessions are the descendants of the server that run the server's own program (OpenSSH 9.8 and later: sshd-session).
func (s *Server) sessions() ([]leftovers.Process, error) {
	root := s.PID()
	if root == 0 {
		return nil, nil
	}
	all, err := leftovers.All()
	if err != nil {
		return nil, err
	}
	ours := map[int]bool{root: true}
	var found []leftovers.Process
	for grew := true; grew; { // PIDs wrap around, so a child may come before its parent
		grew = false
		for _, p := range all {
			name := filepath.Base(p.Executable)
			if !ours[p.PID] && ours[p.PPID] && strings.HasPrefix(name, filepath.Base(s.program)) {
				ours[p.PID], grew = true, true
				found = append(found, p)
			}
		}
	}
	return found, nil
}

// Stop kills the sessions and ends the server. What sessions started stays: see package leftovers. It may be called more than
// once, and Restart starts the server again.
func (s *Server) Stop() {
	s.t.Helper()
	s.freeze() // or a connection that is taken right now would live on
	s.KillSessions()
	s.end(syscall.SIGKILL)
}

// freeze returns when the listening process has stopped, and can make no session any more.
func (s *Server) freeze() {
	s.t.Helper()
	pid := s.PID()
	if pid == 0 {
		return
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.t.Errorf("stop %s: %v", s.program, err)
		return
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, _ := strings.Cut(string(stat), ") ")
		if err != nil || strings.HasPrefix(state, "T") || strings.HasPrefix(state, "Z") { // stopped, or ended by itself
			return
		}
		if time.Now().After(deadline) {
			s.t.Errorf("%s does not stop: %s", s.program, stat)
			return
		}
	}
}

func (s *Server) end(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("end %s: %v", s.program, err)
	}
	select {
	case <-done:
	case <-time.After(patience):
		s.t.Errorf("%s ignores %v", s.program, sig)
		_ = cmd.Process.Kill() // it can only have ended by itself
		<-done
	}
}
