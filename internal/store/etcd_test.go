package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

func openEtcd(t testing.TB, dir string) *Etcd {
	t.Helper()
	e, err := OpenEtcd(t.Context(), EtcdOptions{Dir: dir, Quota: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func closeEtcd(t testing.TB, e *Etcd) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestEtcdKeepsItsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	e := openEtcd(t, dir)
	if _, err := e.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	closeEtcd(t, e)

	start := time.Now()
	e = openEtcd(t, dir)
	t.Logf("second start: %v", time.Since(start))
	defer closeEtcd(t, e)
	got, err := e.Client().Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Fatalf("got %v, %v", got, err)
	}
}

// Everything that the project does with the in-process client: transactions, watches, leases that are kept alive.
func TestInProcessClientIsComplete(t *testing.T) {
	start := time.Now()
	e := openEtcd(t, filepath.Join(t.TempDir(), "etcd"))
	t.Logf("first start: %v", time.Since(start))
	defer closeEtcd(t, e)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := e.Client()

	events := c.Watch(clientv3.WithRequireLeader(ctx), "p/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatalf("no watch: %+v", r)
	}
	session, err := concurrency.NewSession(c, concurrency.WithTTL(6))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("p/a"), "=", 0)).
		Then(clientv3.OpPut("p/a", "1", clientv3.WithLease(session.Lease()))).Commit()
	if err != nil || !resp.Succeeded {
		t.Fatalf("txn: %v %v", resp, err)
	}
	if r := <-events; len(r.Events) != 1 || string(r.Events[0].Kv.Key) != "p/a" {
		t.Fatalf("watch: %+v", r)
	}
	kept, err := c.KeepAlive(ctx, session.Lease())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 { // 6 s of TTL, renewed at once and then every third of it: the lease would be gone after the fourth without renewal
		if r := <-kept; r == nil || r.TTL <= 0 {
			t.Fatalf("keepalive: %v", r)
		}
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-events; len(r.Events) != 1 || r.Events[0].Type != clientv3.EventTypeDelete {
		t.Fatalf("revoke: %+v", r)
	}
}

func TestOpenEtcdObeysItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e, err := OpenEtcd(ctx, EtcdOptions{Dir: filepath.Join(t.TempDir(), "etcd")})
	if e != nil || fault.KindOf(err) != fault.Canceled {
		t.Fatalf("got %v, %v", e, err)
	}
}

func TestOpenEtcdSaysWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenEtcd(t.Context(), EtcdOptions{Dir: file}); fault.KindOf(err) != fault.Environment {
		t.Fatalf("got %v", err)
	}
}

// From outside: no TCP socket listens, no abstract socket exists, the directory is closed, another user gets nowhere.
func TestEtcdCannotBeReached(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test becomes another user: run it as root")
	}
	base, err := os.MkdirTemp("/tmp", "store-reach-") // t.TempDir has a 0700 parent, which would hide a mistake
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	}()
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	old := syscall.Umask(0)
	e := openEtcd(t, filepath.Join(base, "etcd"))
	syscall.Umask(old)
	defer closeEtcd(t, e)

	inodes := ownSockets(t)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"} {
		for _, f := range procTable(t, table) {
			if len(f) > 9 && inodes[f[9]] {
				t.Errorf("%s: this process has a socket: %v", table, f)
			}
		}
	}
	for _, f := range procTable(t, "/proc/net/unix") {
		if len(f) > 7 && inodes[f[6]] {
			t.Errorf("this process has a named unix socket: %v", f)
		}
	}
	if st, err := os.Stat(filepath.Join(base, "etcd")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v %v", st.Mode(), err)
	}
	if out, err := asNobody(base); err != nil {
		t.Errorf("another user reached something: %v\n%s", err, out)
	}

	// The check itself must be able to fail.
	if err := os.Mkdir(filepath.Join(base, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(base, "open", "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Chmod(l.Addr().String(), 0o777); err != nil {
		t.Fatal(err)
	}
	if out, err := asNobody(base); err == nil {
		t.Errorf("a socket open to all was not noticed:\n%s", out)
	}
}

// asNobody runs this test binary as another user, see reachMain.
func asNobody(base string) ([]byte, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The binary lies in a directory of go test that others can't enter.
	copied := filepath.Join(base, "reach")
	data, err := os.ReadFile(exe)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(copied, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command(copied)
	cmd.Dir = "/"
	cmd.Env = []string{"STORE_TEST_REACH=" + base}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd.CombinedOutput()
}

// reachMain is the other user: it walks the directory and fails when it can read a file or connect to a socket.
func reachMain(base string) int {
	bad := 0
	err := filepath.WalkDir(base, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // closed to us, as it should be
		}
		if d.Type()&os.ModeSocket != 0 {
			if c, err := net.Dial("unix", path); err == nil {
				fmt.Println("connected to", path, c.Close())
				bad++
			}
		}
		if d.Type().IsRegular() && d.Name() != "reach" {
			if f, err := os.Open(path); err == nil {
				fmt.Println("read", path, f.Close())
				bad++
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return 2
	}
	return bad
}

// ownSockets returns the inodes of all sockets of this process.
func ownSockets(t *testing.T) map[string]bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]bool{}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil {
			continue // the directory's own descriptor
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}

func procTable(t *testing.T, path string) (rows [][]string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

func TestDialEtcd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "c.sock")
	c := embedConfig(EtcdOptions{Dir: filepath.Join(t.TempDir(), "etcd")})
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	e, err := DialEtcd(t.Context(), DialOptions{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	if e.Server() != nil || e.Failed() != nil {
		t.Error("an external etcd has no server here")
	}
	if _, err := e.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Error(err)
	}
	closeEtcd(t, e)
}

func TestDialEtcdNobodyThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := DialEtcd(ctx, DialOptions{Endpoints: []string{"unix://" + filepath.Join(t.TempDir(), "none")}})
	if fault.KindOf(err) != fault.Unreachable {
		t.Fatalf("got %v", err)
	}
	if _, err := DialEtcd(t.Context(), DialOptions{}); fault.KindOf(err) != fault.Environment {
		t.Errorf("no endpoints: %v", err)
	}
}

func TestOnlyErrorsReachOurLog(t *testing.T) {
	var out bytes.Buffer
	lg := zapLogger(slog.New(slog.NewTextHandler(&out, nil))).With(zap.String("who", "x"))
	lg.Info("quiet")
	lg.Warn("quiet")
	if out.Len() != 0 {
		t.Errorf("logged %q", out.String())
	}
	lg.Error("broken", zap.Int("n", 7))
	for _, want := range []string{"etcd: broken", "who=x", "n=7", "level=ERROR"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}
