package probe

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// needRoot: wrong owners and mounts can only be made by root, which CI is.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test must run as root: it changes owners and mounts file systems in its own namespace")
	}
}

func TestRejectedPrefix(t *testing.T) {
	needRoot(t)
	const uid = 0
	for name, tc := range map[string]struct {
		hostile func(t *testing.T, dir string) error
		mount   string // options of a tmpfs mounted on the directory for the probe alone
		want    string
	}{
		"missing":       {hostile: func(_ *testing.T, d string) error { return os.Remove(d) }, want: "does not exist"},
		"file":          {hostile: func(_ *testing.T, d string) error { return replaceByFile(d) }, want: "is no directory"},
		"foreign":       {hostile: func(_ *testing.T, d string) error { return os.Chown(d, 12345, 0) }, want: "belongs to uid 12345"},
		"open":          {hostile: func(_ *testing.T, d string) error { return os.Chmod(d, 0o777) }, want: "no sticky bit"},
		"group":         {hostile: func(_ *testing.T, d string) error { return os.Chmod(d, 0o770) }, want: "no sticky bit"},
		"base symlink":  {hostile: func(t *testing.T, d string) error { return os.Symlink(t.TempDir(), BaseDir(d, uid)) }, want: "symbolic link"},
		"base dangling": {hostile: func(_ *testing.T, d string) error { return os.Symlink("/nonexistent", BaseDir(d, uid)) }, want: "symbolic link"},
		"base mode":     {hostile: func(_ *testing.T, d string) error { return mkdirMode(BaseDir(d, uid), 0o755) }, want: "drwxr-xr-x"},
		"base owner": {hostile: func(_ *testing.T, d string) error {
			if err := mkdirMode(BaseDir(d, uid), 0o700); err != nil {
				return err
			}
			return os.Chown(BaseDir(d, uid), 12345, 12345)
		}, want: "belongs to uid 12345"},
		"base file": {hostile: func(_ *testing.T, d string) error { return os.WriteFile(BaseDir(d, uid), nil, 0o700) }, want: "which is no directory"},
		"noexec":    {mount: "noexec,mode=700", want: "noexec"},
		"read-only": {mount: "ro,mode=700", want: "Read-only file system"},
		"no inodes": {mount: "nr_inodes=1,mode=700", want: "No space left"},
	} {
		for _, sh := range []string{"dash", "bash", "busybox sh"} {
			t.Run(name+"/"+sh, func(t *testing.T) {
				dir := tempDir(t)
				_, env := home(t)
				if tc.hostile != nil {
					if err := tc.hostile(t, dir); err != nil {
						t.Fatal(err)
					}
				}
				l := local{env: env, sh: strings.Fields(sh)}
				if tc.mount != "" {
					l.wrap = []string{"unshare", "-m", "sh", "-c", `mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"`, "sh", tc.mount, dir}
				}
				f := ask(t, l, Request{Prefix: dir})
				if f.Base != "" || len(f.Rejected) != 1 || f.Rejected[0].Dir != dir || !strings.Contains(f.Rejected[0].Reason, tc.want) {
					t.Fatalf("base %q, rejected %q, want %q", f.Base, f.Rejected, tc.want)
				}
				err := f.Usable()
				if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "--prefix") {
					t.Errorf("%v", err)
				}
				nothingLeft(t, dir, BaseDir(dir, uid))
			})
		}
	}
}

func replaceByFile(dir string) error {
	if err := os.Remove(dir); err != nil {
		return err
	}
	return os.WriteFile(dir, nil, 0o600)
}

func mkdirMode(dir string, mode os.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

func TestFallsBackInOrder(t *testing.T) {
	needRoot(t)
	homeDir, env := home(t)
	cache := homeDir + "/.cache"
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	mount := func(script string) []string {
		return []string{"unshare", "-m", "sh", "-c", script + ` && exec "$@"`, "sh"}
	}
	noexec := "mount -t tmpfs -o noexec,mode=1777 tmpfs "
	for name, tc := range map[string]struct {
		script, want string
		rejected     []string
	}{
		"all good":       {"true", "/var/tmp", nil},
		"var/tmp noexec": {noexec + "/var/tmp", cache, []string{"/var/tmp"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := ask(t, local{env: env, wrap: mount(tc.script)}, Request{})
			if f.Base != BaseDir(tc.want, 0) || len(f.Rejected) != len(tc.rejected) {
				t.Fatalf("%+v", f)
			}
			for i, dir := range tc.rejected {
				if f.Rejected[i].Dir != dir {
					t.Errorf("%+v", f.Rejected)
				}
			}
		})
	}
}

func TestOddHomes(t *testing.T) {
	needRoot(t)
	noexec := []string{"unshare", "-m", "sh", "-c", `mount -t tmpfs -o noexec,mode=1777 tmpfs /var/tmp && exec "$@"`, "sh"}
	for name, tc := range map[string]struct {
		home     string // "-" = unset
		rejected int
	}{
		"unset":     {"-", 1},
		"empty":     {"", 1},
		"spaces":    {"/tmp/with space", 2},
		"relative":  {"tmp", 1},
		"newline":   {"/tmp/a\nrejected=/x\ty", 2},
		"quotes":    {`/tmp/a'"$(touch /tmp/probed)`, 2},
		"glob":      {"/tmp/*", 2},
		"not there": {"/nonexistent/home", 2},
	} {
		for _, sh := range []string{"dash", "bash", "busybox sh"} {
			t.Run(name+"/"+sh, func(t *testing.T) {
				env := []string{"PATH=/usr/bin:/bin", "USER=tester"}
				if tc.home != "-" {
					env = append(env, "HOME="+tc.home)
				}
				f := ask(t, local{env: env, sh: strings.Fields(sh), wrap: noexec}, Request{})
				if f.Base != BaseDir("/tmp", 0) || len(f.Rejected) != tc.rejected {
					t.Fatalf("%+v", f)
				}
			})
		}
	}
}

func TestBadPrefixIsRefusedBeforeAnythingIsRun(t *testing.T) {
	for _, prefix := range []string{"relative", "/with space", "/a/../b", "/a\nb", "/$(id)", "/a/./b", "~/x"} {
		_, err := Run(t.Context(), mustNotRun{t}, Request{Prefix: prefix, Run: "a", Host: "web1"})
		if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "web1") {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

type mustNotRun struct{ t *testing.T }

func (m mustNotRun) Exec(context.Context, sshconn.Exec) error {
	m.t.Error("something was run")
	return nil
}

// TestForks holds the price of a probe: each fork is paid for by every host at once.
func TestForks(t *testing.T) {
	prefix := tempDir(t)
	if err := os.Mkdir(BaseDir(prefix, os.Geteuid()), 0o700); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(tempDir(t), "trace")
	_, env := home(t)
	ask(t, local{env: env, sh: []string{"dash"}, wrap: []string{"strace", "-f", "-e", "trace=execve", "-o", trace}}, Request{Prefix: prefix})
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	execs := 0
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "execve(") && strings.Contains(line, "= 0") {
			execs++
		}
	}
	const want = 6 // dash itself, uname, ls, chmod, the tried file (which is rm), df
	if execs != want {
		t.Errorf("%d programs were run, not %d:\n%s", execs, want, data)
	}
}

func BenchmarkProbe(b *testing.B) {
	for _, sh := range []string{"dash", "bash", "busybox sh"} {
		b.Run(sh, func(b *testing.B) {
			script := script(newMarker(), Request{Run: "abc123", Host: "web1"})
			var cpu time.Duration
			for b.Loop() {
				args := append(strings.Fields(sh), "-s")
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Stdin = strings.NewReader(string(script))
				if out, err := cmd.Output(); err != nil || len(out) < 100 {
					b.Fatalf("%v: %s", err, out)
				}
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			}
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}
