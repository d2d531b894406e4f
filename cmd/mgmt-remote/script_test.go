package main

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/shimbin"
	"github.com/mgmt-remote/mgmt-remote/test/schemacheck"
	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mgmt-remote": func() {
		shimbin.Declare() // this test binary is the program, also on the hosts
		main()
	}})
}

// patienceWithPrograms is how long a program may take to say something. It is only waited for when a test fails.
const patienceWithPrograms = 3 * time.Minute

// TestScripts runs testdata/*.txtar. Beside testscript's own commands there are those of scriptCommands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		ContinueOnError:     true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
				return err
			}
			env.Setenv("HOME", home)
			env.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
			env.Setenv("SSH_AUTH_SOCK", "")
			env.Values[accepted{}] = &atomic.Int64{}
			env.Values[hopeless{}] = &atomic.Bool{}
			return nil
		},
		Cmds: scriptCommands,
	})
}

// accepted is the key of the number of connections that a script's listener has seen.
type accepted struct{}

// hopeless is the key of whether a script has waited in vain. What it goes on with is for the report, and not worth to be waited for.
type hopeless struct{}

var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"run": func(ts *testscript.TestScript, _ bool, args []string) { scriptRun(ts, args...) },
	// refuses [ARG...]: the same with "mgmt-remote run ARG..." that must end with 1, without a word on stdout and with
	// "mgmt-remote:" before the one message on stderr.
	"refuses": func(ts *testscript.TestScript, _ bool, args []string) {
		scriptRun(ts, append([]string{"1", "run"}, args...)...)
		stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
		if stdout != "" || !strings.HasPrefix(stderr, "mgmt-remote: ") || strings.Contains(stderr, "Usage:") {
			ts.Fatalf("not one message on stderr alone")
		}
		if n := ts.Value(accepted{}).(*atomic.Int64).Swap(0); n != 0 {
			ts.Fatalf("%d connections were made", n)
		}
	},
	// listener starts a TCP server on 127.0.0.1:$port. From then on "refuses" also wants that nobody has connected to it.
	"listener": func(ts *testscript.TestScript, _ bool, _ []string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		count := ts.Value(accepted{}).(*atomic.Int64)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				count.Add(1)
				_ = c.Close()
			}
		}()
		ts.Defer(func() {
			_ = l.Close()
			<-done
		})
		ts.Setenv("port", strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	},
	// fleet [-password WORD] NAME... starts hosts: $NAME is where they are, $NAME_home their home, $key, $known and
	// $prefix are files and a directory for all.
	"fleet": func(ts *testscript.TestScript, _ bool, args []string) {
		opts := sshfleet.Options{}
		if args[0] == "-password" {
			opts.Login, opts.Password, args = sshfleet.LoginPassword, args[1], args[2:]
		}
		opts.Names = args
		f, prefix := startFleet(ts, opts)
		ts.Setenv("key", f.KeyFile())
		ts.Setenv("known", f.KnownHostsFile())
		ts.Setenv("prefix", prefix)
		for _, h := range f.Hosts() {
			ts.Setenv(h.Name(), fmt.Sprintf("%s=%s@%s", h.Name(), h.User(), h.Addr()))
			ts.Setenv(h.Name()+"_home", h.Home())
		}
	},
	// at NAME=USER@ADDR sets $user and $addr.
	"at": func(ts *testscript.TestScript, _ bool, args []string) {
		_, where, _ := strings.Cut(args[0], "=")
		user, addr, _ := strings.Cut(where, "@")
		ts.Setenv("user", user)
		ts.Setenv("addr", addr)
	},
	// inventory FILE NAME=USER@ADDR... writes an inventory of hosts.
	"inventory": func(ts *testscript.TestScript, _ bool, args []string) {
		text := "hosts:\n"
		for _, h := range args[1:] {
			name, where, _ := strings.Cut(h, "=")
			user, addr, _ := strings.Cut(where, "@")
			ip, port, _ := net.SplitHostPort(addr)
			text += fmt.Sprintf("  %s: {address: %q, port: %s, user: %s}\n", name, ip, port, user)
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	},
	// nothing-left fails when anything but the cache is below $prefix.
	"nothing-left": func(ts *testscript.TestScript, _ bool, _ []string) {
		left, err := filepath.Glob(ts.Getenv("prefix") + "/*/*")
		ts.Check(err)
		for _, path := range left {
			if filepath.Base(path) != "cache" {
				ts.Fatalf("left behind: %s", path)
			}
		}
	},
	// events: stdout is JSON, one event per line, from run_started to run_finished; $run is the run's ID.
	"events": func(ts *testscript.TestScript, _ bool, _ []string) {
		lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
		for i, line := range lines {
			if err := schemacheck.Event([]byte(line)); err != nil {
				ts.Fatalf("line %d: %v: %s", i+1, err, line)
			}
			var event struct{ Type, At, Run string }
			ts.Check(json.Unmarshal([]byte(line), &event))
			if event.At == "" || (event.Type == "run_started") != (i == 0) || (event.Type == "run_finished") != (i == len(lines)-1) {
				ts.Fatalf("line %d is a %s: %s", i+1, event.Type, line)
			}
			if i == 0 {
				ts.Setenv("run", event.Run)
			}
		}
	},
	// report FILE: the file is a report.
	"report": func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(schemacheck.Report([]byte(ts.ReadFile(args[0]))))
	},
	// keygen FILE [PASSPHRASE] makes a private key.
	"keygen": func(ts *testscript.TestScript, _ bool, args []string) {
		_, private, err := ed25519.GenerateKey(nil)
		ts.Check(err)
		block, err := ssh.MarshalPrivateKey(private, "test")
		if len(args) > 1 {
			block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "test", []byte(args[1]))
		}
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
	},
	// await FILE REGEXP waits until something else has written that into the file.
	"await": func(ts *testscript.TestScript, _ bool, args []string) {
		want, err := regexp.Compile("(?m)" + args[1])
		ts.Check(err)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		vain := ts.Value(hopeless{}).(*atomic.Bool)
		for limit := time.Now().Add(patienceWithPrograms); ; <-tick.C {
			data, err := os.ReadFile(ts.MkAbs(args[0]))
			if err == nil && want.Match(data) {
				return
			}
			if time.Now().After(limit) || vain.Load() {
				vain.Store(true)
				ts.Fatalf("not within %v: %v %s", patienceWithPrograms, err, data)
			}
		}
	},
	// narrow fails when a line of stdout is wider than 80 columns.
	"narrow": func(ts *testscript.TestScript, _ bool, _ []string) {
		for line := range strings.Lines(ts.ReadFile("stdout")) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > helpWidth {
				ts.Fatalf("%d columns: %s", n, line)
			}
		}
	},
}

// scriptRun is the command "run CODE ARG...": it starts mgmt-remote without a terminal and wants that exit code.
func scriptRun(ts *testscript.TestScript, args ...string) {
	err := ts.Exec("setsid", append([]string{"-w", "mgmt-remote"}, args[1:]...)...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// startFleet starts hosts in a directory with a short name, because sockets are made in it, and a prefix for them.
func startFleet(ts *testscript.TestScript, opts sshfleet.Options) (*sshfleet.Fleet, string) {
	dir, err := os.MkdirTemp("", "mr")
	ts.Check(err)
	ts.Defer(func() { ts.Check(os.RemoveAll(dir)) })
	opts.Dir = filepath.Join(dir, "f")
	f, err := sshfleet.New(opts)
	ts.Check(err)
	ts.Defer(func() { ts.Check(f.Close()) })
	prefix := filepath.Join(dir, "p")
	ts.Check(os.Mkdir(prefix, 0o700))
	return f, prefix
}
