package sshconn

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// proxyTo makes the test program a proxy command: it connects to the address in this variable.
const proxyTo = "SSHCONN_TEST_PROXY_TO"

// proxyMain is what a proxy command does: standard input to the host, what the host says to standard output.
func proxyMain(address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	go func() { _, _ = io.Copy(c, os.Stdin); _ = c.Close() }()
	_, _ = io.Copy(os.Stdout, c)
	os.Exit(0)
}

func withSSH(h inventory.Host, s inventory.SSH) inventory.Host {
	h.SSH = &s
	return h
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	must(t, err)
	return path
}

// The connection goes through the command, which ends with the connection, and its whole process group with it.
func TestProxyCommand(t *testing.T) {
	t.Setenv("SHELL", "")
	s := newServer(t)
	host := tcp(t, s)
	left := filepath.Join(t.TempDir(), "left")
	// A shell that does not exec, and something in the background that holds nothing of ours.
	command := fmt.Sprintf("sh -c 'sleep 1000 >/dev/null 2>&1 & echo $! > %s; %s=%s %s; :'", left, proxyTo, host.Address(), self(t))
	o := insecure(t)
	o.NetDial = func(context.Context, string, string) (net.Conn, error) {
		t.Error("a connection was made past the command")
		return nil, io.EOF
	}
	c, err := dialer(t, o).Dial(t.Context(), withSSH(host, inventory.SSH{ProxyCommand: command}))
	must(t, err)
	says(t, c)
	data, err := os.ReadFile(left)
	must(t, err)
	process := "/proc/" + strings.TrimSpace(string(data)) + "/stat"
	running := func() bool {
		stat, err := os.ReadFile(process)
		return err == nil && !strings.Contains(string(stat), ") Z ")
	}
	if !running() {
		t.Fatal("the command's process does not run while the connection lives")
	}
	must(t, c.Close())
	eventually(t, "the process group has ended", func() bool { return !running() })
}

// What a command says when it fails is in the error.
func TestProxyCommandFails(t *testing.T) {
	t.Setenv("SHELL", "/bin/sh")
	host := inventory.Host{Name: "h", Addr: "127.0.0.1", Port: 1, User: "u", Password: goodPassword}
	for command, want := range map[string]struct {
		kind   fault.Kind
		words  []string
		within time.Duration
	}{
		"sh -c 'echo no way >&2; echo through >&2; exit 4'": {fault.Unreachable, []string{"exit status 4", "it said no way; through"}, 0},
		"/nonexistent-of-ours":                              {fault.Environment, []string{`proxy command "/nonexistent-of-ours"`, "exit status 127"}, 0},
		"true":                                              {fault.Unreachable, []string{"ended"}, 0},
		"sleep 1000":                                        {fault.Unreachable, []string{"no SSH server answered within 400ms"}, 400 * time.Millisecond},
	} {
		o := insecure(t)
		d := dialer(t, o)
		_, err := d.Dial(t.Context(), withSSH(host, inventory.SSH{ProxyCommand: command, ConnectTimeout: want.within}))
		wantFault(t, err, want.kind, want.words...)
	}
	// A command that is lost later ends the connection.
	s := newServer(t)
	at := tcp(t, s)
	pid := filepath.Join(t.TempDir(), "pid")
	c, err := dialer(t, insecure(t)).Dial(t.Context(), withSSH(at, inventory.SSH{ProxyCommand: fmt.Sprintf("sh -c 'echo $$ > %s; exec env %s=%s %s'", pid, proxyTo, at.Address(), self(t))}))
	must(t, err)
	data, err := os.ReadFile(pid)
	must(t, err)
	run(t, "kill", "-9", strings.TrimSpace(string(data)))
	<-c.Done()
	wantFault(t, c.Exec(t.Context(), Exec{Command: "echo"}), fault.Lost, "proxy command", "signal: killed")
}

// What is said about one host goes before what is said for all.
func TestSettingsOfOneHost(t *testing.T) {
	d := dialer(t, insecure(t))
	o := d.optionsFor(withSSH(testHost, inventory.SSH{ConnectTimeout: time.Second, KeepaliveInterval: 2 * time.Second, KeepaliveCount: 7}))
	if o.ConnectTimeout != time.Second || o.KeepaliveInterval != 2*time.Second || o.KeepaliveCount != 7 || o.ChannelTimeout != DefaultChannelTimeout {
		t.Errorf("%+v", o)
	}
	if o := d.optionsFor(withSSH(testHost, inventory.SSH{ConnectTimeout: -1, KeepaliveInterval: -1})); o.ConnectTimeout != DefaultConnectTimeout || o.KeepaliveInterval != -1 {
		t.Errorf("%+v", o)
	}
	if o := d.optionsFor(testHost); o != &d.opts {
		t.Error("other options where nothing is said")
	}
	// Address family and the local address.
	s := newServer(t)
	var from sync.Map
	s.config.PasswordCallback = func(meta ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) {
		from.Store("addr", meta.RemoteAddr().String())
		return nil, nil
	}
	host := tcp(t, s)
	_, err := d.Dial(t.Context(), withSSH(host, inventory.SSH{AddressFamily: "inet6"}))
	wantFault(t, err, fault.Unreachable)
	c, err := d.Dial(t.Context(), withSSH(host, inventory.SSH{AddressFamily: "inet", BindAddress: "127.0.0.9"}))
	must(t, err)
	must(t, c.Close())
	if addr, _ := from.Load("addr"); !strings.HasPrefix(fmt.Sprint(addr), "127.0.0.9:") {
		t.Errorf("the host saw %v", addr)
	}
}

// A host that only takes what is not offered by default is reached where its list says so.
func TestAlgorithmsOfOneHost(t *testing.T) {
	s := newServer(t)
	s.config.Ciphers = []string{ssh.InsecureCipherAES128CBC}
	host := tcp(t, s)
	d := dialer(t, insecure(t))
	_, err := d.Dial(t.Context(), host)
	wantFault(t, err, fault.Environment, "no common algorithm")
	c, err := d.Dial(t.Context(), withSSH(host, inventory.SSH{Ciphers: "+aes128-cbc", KeyExchanges: "^curve25519*", MACs: "-hmac-sha1*", HostKeyAlgorithms: "ssh-ed25519"}))
	must(t, err)
	says(t, c)
	must(t, c.Close())
	_, err = d.Dial(t.Context(), withSSH(host, inventory.SSH{Ciphers: "rot13"}))
	wantFault(t, err, fault.Environment, "Ciphers rot13: none of them is known here")
}

// A host may have known_hosts of its own, an alias, and a policy of its own.
func TestHostKeysOfOneHost(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := newServer(t)
	host := tcp(t, s)
	key := s.hostKey.PublicKey()
	dir := t.TempDir()
	mine := writeFile(t, filepath.Join(dir, "mine"), knownhosts.Line([]string{"the-alias"}, key)+"\n")
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Files: []string{filepath.Join(dir, "none")}}), Auth: newAuth(t, AuthOptions{})}
	d := dialer(t, o)
	_, err := d.Dial(t.Context(), host)
	wantFault(t, err, fault.Untrusted, "the host is unknown")
	dial := func(ssh inventory.SSH) error {
		t.Helper()
		c, err := d.Dial(t.Context(), withSSH(host, ssh))
		if err == nil {
			must(t, c.Close())
		}
		return err
	}
	must(t, dial(inventory.SSH{KnownHosts: []string{mine}, HostKeyAlias: "the-alias"}))
	must(t, dial(inventory.SSH{KnownHosts: []string{"none"}, GlobalKnownHosts: []string{mine}, HostKeyAlias: "the-alias"}))
	wantFault(t, dial(inventory.SSH{KnownHosts: []string{mine}}), fault.Untrusted, "the host is unknown")
	must(t, dial(inventory.SSH{HostKeys: "insecure"}))
	wantFault(t, dial(inventory.SSH{HostKeys: "ask"}), fault.Untrusted, "the host is unknown") // there is nobody
	// New keys go to the first file of the user, hashed where that is wanted.
	fresh := filepath.Join(dir, "ssh", "fresh")
	must(t, dial(inventory.SSH{HostKeys: "accept-new", KnownHosts: []string{fresh, mine}, HashKnownHosts: true}))
	data, err := os.ReadFile(fresh)
	if err != nil || !strings.HasPrefix(string(data), "|1|") {
		t.Errorf("%q %v", data, err)
	}
	must(t, dial(inventory.SSH{KnownHosts: []string{fresh}}))
	// Nowhere to write to: it is trusted, and forgotten.
	must(t, dial(inventory.SSH{HostKeys: "accept-new", KnownHosts: []string{"none"}}))
	// A changed key is told under the alias.
	other := writeFile(t, filepath.Join(dir, "other"), knownhosts.Line([]string{"the-alias"}, newSigner(t).PublicKey())+"\n")
	err = dial(inventory.SSH{HostKeys: "accept-new", KnownHosts: []string{other}, HostKeyAlias: "the-alias"})
	if f := wantFault(t, err, fault.Untrusted, "has changed"); !strings.Contains(f.Remedy, "ssh-keygen -R 'the-alias'") {
		t.Error(f.Remedy)
	}
}

// person answers questions about host keys.
type person struct {
	answers
	yes   bool
	block chan struct{} // not nil: closed when the question is there, which then waits

	asking    sync.Mutex
	questions []string
}

func (p *person) Confirm(ctx context.Context, question string) (bool, error) {
	p.asking.Lock()
	defer p.asking.Unlock()
	p.questions = append(p.questions, question)
	if p.block != nil {
		close(p.block)
		<-ctx.Done()
		return false, ctx.Err()
	}
	return p.yes, nil
}

// asking makes a dialer that asks p about the keys of new hosts, which are in memory. It is for a synctest bubble: time passes when all
// hosts have come.
func asking(t *testing.T, p *person, hosts map[string]*server) (*Dialer, string) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "known_hosts")
	keys := newHostKeys(t, HostKeyOptions{Policy: Ask, Files: []string{file}, Confirm: p})
	dials := map[string]func(context.Context, string, string) (net.Conn, error){}
	for address, s := range hosts {
		dials[address] = memory(t, s)
	}
	return dialer(t, Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{}), NetDial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return dials[address](ctx, network, address)
	}}), file
}

// One question is about all new hosts, with their fingerprints. Who said yes is not asked again, nor is who said no.
func TestNewHostsAreAskedAboutOnce(t *testing.T) {
	for _, yes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := &person{yes: yes}
			servers := map[string]*server{}
			var hosts []inventory.Host
			for i := range 5 {
				host := named(testHost, fmt.Sprint("h", i))
				host.Addr = host.Name + ".example"
				hosts = append(hosts, host)
				servers[host.Address()] = newServer(t)
			}
			d, file := asking(t, p, servers)
			var all sync.WaitGroup
			for i, host := range hosts {
				all.Go(func() {
					time.Sleep(time.Duration(i) * 900 * time.Millisecond) // none is a second behind the one before
					for range 2 {
						c, err := d.Dial(t.Context(), host)
						switch {
						case yes && err == nil:
							_ = c.Close()
						case yes:
							t.Error(err)
						default:
							wantFault(t, err, fault.Untrusted, "was refused")
						}
					}
				})
			}
			all.Wait()
			if len(p.questions) != 1 {
				t.Fatalf("asked %q", p.questions)
			}
			for _, want := range []string{"The keys of 5 hosts are not known:\n  h0 (" + hosts[0].Address() + ")  ssh-ed25519 SHA256:", "  h4 (", "\nYes writes them to " + file + ".\nTrust them? (yes/no) "} {
				if !strings.Contains(p.questions[0], want) {
					t.Errorf("%q is not in %q", want, p.questions[0])
				}
			}
			data, _ := os.ReadFile(file)
			if n := strings.Count(string(data), "\n"); yes && n != 5 || !yes && n != 0 {
				t.Errorf("%d keys were remembered", n)
			}
		})
	}
}

// lateConn gives nothing until it is late, and tells when somebody waits for it.
type lateConn struct {
	net.Conn
	waits func()
	late  <-chan struct{}
}

func (c lateConn) Read(p []byte) (int, error) {
	c.waits()
	<-c.late
	return c.Conn.Read(p)
}

// A host that is connected and slow to show its key is in the question about the others.
func TestSlowHostsAreWaitedForBeforeTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &person{yes: true}
		quick, slow := named(testHost, "quick"), named(testHost, "slow")
		quick.Addr, slow.Addr = "quick.example", "slow.example"
		d, _ := asking(t, p, map[string]*server{quick.Address(): newServer(t), slow.Address(): newServer(t)})
		waits, late := make(chan struct{}), make(chan struct{})
		inMemory := d.opts.NetDial
		d.opts.NetDial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := inMemory(ctx, network, address)
			if err == nil && address == slow.Address() {
				c = lateConn{c, sync.OnceFunc(func() { close(waits) }), late}
			}
			return c, err
		}
		var all sync.WaitGroup
		dial := func(h inventory.Host) {
			c, err := d.Dial(t.Context(), h)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		}
		all.Go(func() { dial(slow) })
		<-waits
		all.Go(func() { dial(quick) })
		time.AfterFunc(3*askQuiet, func() { close(late) })
		all.Wait()
		if len(p.questions) != 1 || !strings.HasPrefix(p.questions[0], "The keys of 2 hosts are not known:") {
			t.Errorf("asked %q", p.questions)
		}
	})
}

// A question that nobody waits for any more is taken back.
func TestQuestionEndsWithTheDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &person{block: make(chan struct{})}
		d, _ := asking(t, p, map[string]*server{testHost.Address(): newServer(t)})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-p.block
			cancel()
		}()
		_, err := d.Dial(ctx, testHost)
		if err == nil {
			t.Fatal("connected")
		}
		p.asking.Lock() // held until the question has ended
		defer p.asking.Unlock()
		if len(p.questions) != 1 || !strings.HasPrefix(p.questions[0], "The key of this host is not known:") {
			t.Errorf("%q", p.questions)
		}
	})
}
