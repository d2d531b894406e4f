package gateway

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// etcdctl runs Debian's etcdctl against a unix socket whose connections are those of a host.
func etcdctl(t *testing.T, b *bench, host string) func(stdin string, args ...string) (string, error) {
	t.Helper()
	bin, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Fatalf("this test needs etcdctl (Debian: etcd-client): %v", err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "e.sock"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.gw.Handle(host, c)
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return func(stdin string, args ...string) (string, error) {
		var out bytes.Buffer
		cmd := exec.CommandContext(timeout(t), bin, args...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=unix://"+l.Addr().String(),
			"ETCDCTL_DIAL_TIMEOUT="+patience.String(), "ETCDCTL_COMMAND_TIMEOUT="+patience.String())
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
		err := cmd.Run()
		return out.String(), err
	}
}

func TestEtcdctl(t *testing.T) {
	b := newBench(t, Limits{}, false)
	a, z := etcdctl(t, b, "a"), etcdctl(t, b, "z")
	kv := keys.KV(testRun)

	ok := func(run func(string, ...string) (string, error), want, stdin string, args ...string) string {
		t.Helper()
		out, err := run(stdin, args...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		return out
	}
	no := func(run func(string, ...string) (string, error), stdin string, args ...string) {
		t.Helper()
		out, err := run(stdin, args...)
		if err == nil || !strings.Contains(out, "PermissionDenied") {
			t.Errorf("%v is not refused: %v\n%s", args, err, out)
		}
	}
	ok(a, "OK", "", "put", kv+"x", "hello")
	ok(z, "hello", "", "get", kv+"x")
	ok(z, "hello", "", "get", "--prefix", keys.Run(testRun))
	ok(z, "hello", "", "put", "--prev-kv", kv+"x", "again")
	no(z, "", "get", "--prefix", "")
	no(z, "", "get", "--from-key", kv)
	no(z, "", "put", keys.Quiet(testRun, "a"), "1")
	no(z, "", "put", keys.State(testRun, "z"), "1")
	no(z, "", "del", "--prefix", keys.Run(testRun))
	ok(z, "1", "", "del", "--prefix", kv)

	ok(a, "SUCCESS", "create(\""+kv+"t\") = \"0\"\n\nput "+kv+"t 1\n\n\n", "txn")
	no(a, "create(\"/outside\") = \"0\"\n\nput "+kv+"t 2\n\n\n", "txn")
	no(a, "create(\""+kv+"t\") = \"0\"\n\nput "+kv+"t 2\n\nput "+keys.State(testRun, "a")+" x\n\n", "txn")

	granted := strings.Fields(ok(a, "granted with TTL(60s)", "", "lease", "grant", "60"))
	if len(granted) < 2 {
		t.Fatal("no lease")
	}
	id := granted[1]
	ok(a, "OK", "", "put", "--lease", id, keys.Quiet(testRun, "a"), "1")
	ok(a, keys.Quiet(testRun, "a"), "", "lease", "timetolive", "--keys", id)
	ok(a, "keepalived with TTL(60)", "", "lease", "keep-alive", "--once", id)
	no(z, "", "lease", "timetolive", "--keys", id)
	no(z, "", "lease", "keep-alive", "--once", id)
	no(z, "", "lease", "revoke", id)
	no(z, "", "put", "--lease", id, kv+"y", "1")
	no(z, "", "lease", "list")
	ok(a, "revoked", "", "lease", "revoke", id)

	// A watch from revision 1 sees the put above at once; the command it runs ends the wait.
	out, err := z("", "watch", "--rev", "1", kv+"x", "--", "sh", "-c", "echo saw $ETCD_WATCH_KEY; kill $PPID")
	if !strings.Contains(out, "saw") {
		t.Errorf("watch: %v\n%s", err, out)
	}
	if out, _ := z("", "watch", "/outside"); !strings.Contains(out, "host z") {
		t.Errorf("watch outside:\n%s", out)
	}

	for _, args := range [][]string{{"member", "list"}, {"compact", "1"}, {"auth", "enable"}, {"user", "list"}, {"alarm", "list"}, {"snapshot", "save", filepath.Join(t.TempDir(), "s")}} {
		no(z, "", args...)
	}
}
