package cleanup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// local runs the script on this machine, in a mount namespace whose /tmp and /var/tmp are empty: those of the machine are not ours.
type local struct {
	sh   []string
	home string
}

func (l local) Exec(ctx context.Context, e sshconn.Exec) error {
	args := append([]string{"-m", "sh", "-c", `mount -t tmpfs tmpfs /var/tmp && mount -t tmpfs tmpfs /tmp && exec "$@"`, "sh"}, l.sh...)
	cmd := exec.CommandContext(ctx, "unshare", append(args, "-s")...)
	cmd.Env = []string{"HOME=" + l.home, "PATH=/usr/bin:/bin"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &sshconn.ExitError{Code: exit.ExitCode()}
	}
	return err
}

var shells = map[string][]string{"dash": {"dash"}, "bash": {"bash"}, "busybox": {"busybox", "sh"}}

// each runs a test in every shell, with a base for it.
func each(t *testing.T, test func(t *testing.T, l local, base string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test must run as root: it mounts in a namespace of its own and changes owners")
	}
	for name, sh := range shells {
		t.Run(name, func(t *testing.T) {
			l := local{sh: sh, home: tempDir(t)}
			base := probe.BaseDir(l.home+"/.cache", os.Geteuid())
			mkdir(t, base)
			test(t, l, base)
		})
	}
}

// tempDir is one that is not below /tmp.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/cache", "cleanup")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func clean(t *testing.T, l local, r Request) Result {
	t.Helper()
	res, err := Run(t.Context(), l, r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// child starts a process in a terminal session of its own and returns its ID and start time.
func child(t *testing.T) (pid int, start string, done chan error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "setsid", "sleep", "600") // not a group leader here, so setsid does not fork
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for {
		f := stat(t, cmd.Process.Pid)
		if f[3] == strconv.Itoa(cmd.Process.Pid) {
			return cmd.Process.Pid, f[19], done
		}
	}
}

func stat(t *testing.T, pid int) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
}

func record(t *testing.T, shim int, shimStart string, starter int, start string) string {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	p := func(pid int, start string) string { return `"pid":` + strconv.Itoa(pid) + `,"start":"` + start + `"` }
	return `{` + p(shim, shimStart) + `,"boot_id":"` + strings.TrimSpace(string(boot)) + `","argv0":"\"starter\":{\"pid\":1",` +
		`"starter":{` + p(starter, start) + `},"payload":{` + p(starter, start) + `},"endpoint":""}` + "\n"
}

func TestDeadSessionsGoWithWhatTheyLeft(t *testing.T) {
	each(t, func(t *testing.T, l local, base string) {
		pid, start, done := child(t)
		dir := base + "/abc123/web1"
		write(t, dir+"/shim.json", record(t, 1<<22+1, "1", pid, start))
		write(t, base+"/abc123/.gone-web2/x", "x")
		write(t, base+"/cache/ab/shim", "x")

		res := clean(t, l, Request{DryRun: true, Cache: true})
		if len(res.Removed) != 3 || len(res.Ended) != 1 || !there(dir) || !there(base+"/cache/ab/shim") || stat(t, pid)[0] == "Z" {
			t.Fatalf("dry: %+v", res)
		}
		res = clean(t, l, Request{})
		if len(res.Removed) != 2 || res.Removed[0].Path != dir || res.Removed[0].Bytes == 0 || len(res.Failed) != 0 {
			t.Errorf("%+v", res)
		}
		if len(res.Ended) != 1 || len(res.Ended[0].PIDs) != 1 || res.Ended[0].PIDs[0] != pid {
			t.Errorf("%+v", res.Ended)
		}
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("the process lives")
		}
		if there(base+"/abc123") || !there(base+"/cache/ab/shim") {
			t.Error("wrong things were removed")
		}
		if res = clean(t, l, Request{Cache: true}); len(res.Removed) != 1 || there(base) {
			t.Errorf("%+v", res)
		}
	})
}

func TestLiveSessionsAreSparedUnlessAskedFor(t *testing.T) {
	each(t, func(t *testing.T, l local, base string) {
		pid, start, done := child(t)
		dir := base + "/abc123/web1"
		write(t, dir+"/shim.json", record(t, pid, start, pid, start))
		write(t, base+"/cache/ab/shim", "x")
		res := clean(t, l, Request{Cache: true})
		if len(res.Alive) != 1 || res.Alive[0] != (Session{Run: "abc123", Host: "web1", PID: pid, Dir: dir}) || len(res.Removed) != 0 || len(res.CacheKept) != 1 {
			t.Fatalf("%+v", res)
		}
		res = clean(t, l, Request{Cache: true, Live: true, Spare: []string{"abc123"}})
		if len(res.Spared) != 1 || res.Spared[0].Why != "driven" || len(res.Removed) != 0 || !there(dir+"/shim.json") {
			t.Fatalf("%+v", res)
		}
		res = clean(t, l, Request{Cache: true, Live: true})
		if len(res.Stopped) != 1 || len(res.Removed) != 2 || there(base) {
			t.Errorf("%+v", res)
		}
		<-done
	})
}

func TestASessionThatIsBeingMadeIsSpared(t *testing.T) {
	each(t, func(t *testing.T, l local, base string) {
		dir := base + "/abc123/web1"
		mkdir(t, dir)
		if res := clean(t, l, Request{}); len(res.Spared) != 1 || res.Spared[0].Why != "young" || !there(dir) {
			t.Errorf("%+v", res)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
		if res := clean(t, l, Request{}); len(res.Removed) != 1 || there(base) {
			t.Errorf("%+v", res)
		}
	})
}

func TestABaseThatWasBegunGoes(t *testing.T) {
	each(t, func(t *testing.T, l local, base string) {
		begun, full := base+".abc123.web1", base+".abc123.web2"
		mkdir(t, begun)
		write(t, full+"/file", "somebody's")
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(full, old, old); err != nil {
			t.Fatal(err)
		}
		if res := clean(t, l, Request{}); len(res.Removed) != 0 || !there(begun) {
			t.Errorf("it may be about to get its name: %+v", res)
		}
		if err := os.Chtimes(begun, old, old); err != nil {
			t.Fatal(err)
		}
		if res := clean(t, l, Request{DryRun: true}); len(res.Removed) != 1 || !there(begun) {
			t.Errorf("dry: %+v", res)
		}
		if res := clean(t, l, Request{}); len(res.Removed) != 1 || res.Removed[0].Path != begun || there(begun) || !there(full+"/file") {
			t.Errorf("%+v", res)
		}
	})
}

func TestNothingOutsideABaseIsTouched(t *testing.T) {
	each(t, func(t *testing.T, l local, base string) {
		out := tempDir(t)
		write(t, out+"/web1/shim.json", "{}\n")
		write(t, base+"/abc123/web1/shim.json", "{\"pid\":$(touch "+out+"/x),\"start\":\"`id`\"}\n")
		write(t, base+"/abc123/odd name\nremoved=1/shim.json", "{}\n")
		for _, link := range []string{"/runlink", "/abc123/hostlink", "/abc123/web1/inside", "/cache"} {
			if err := os.Symlink(out, base+link); err != nil {
				t.Fatal(err)
			}
		}
		res := clean(t, l, Request{Cache: true, Live: true})
		if len(res.Removed) != 1 || there(base+"/abc123/web1") || !there(base+"/abc123/odd name\nremoved=1/shim.json") {
			t.Errorf("%+v", res)
		}
		if !there(out+"/web1/shim.json") || there(out+"/x") || !there(base+"/cache") || !there(base+"/abc123/hostlink") {
			t.Error("touched what is not ours")
		}
	})
}

func TestBasesThatAreNotOurs(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(base, real string) error
		want  string
	}{
		"link":    {func(base, real string) error { return errors.Join(os.Rename(base, real), os.Symlink(real, base)) }, "symbolic link"},
		"foreign": {func(base, _ string) error { return os.Chown(base, 12345, 0) }, "belongs to uid 12345"},
		"open":    {func(base, _ string) error { return os.Chmod(base, 0o755) }, "others can enter"},
		"parent":  {func(base, _ string) error { return os.Chmod(filepath.Dir(base), 0o777) }, "others can write"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, l local, base string) {
				write(t, base+"/abc123/web1/shim.json", "{}\n")
				if err := tc.spoil(base, l.home+"/real"); err != nil {
					t.Fatal(err)
				}
				res := clean(t, l, Request{Cache: true, Live: true})
				if len(res.Failed) != 1 || !strings.Contains(res.Failed[0].Reason, tc.want) || !there(base+"/abc123/web1/shim.json") {
					t.Errorf("%+v", res)
				}
			})
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("\nm BEGIN\nremoved=4 /var/tmp/x\nended=a/b 1 2\nalive=a b 3 /x\nfailed=x\ty\nm END\n")
	f.Add("\nm BEGIN\nremoved=-1 x\nm END\n")
	f.Fuzz(func(_ *testing.T, out string) { _, _ = parse("m", []byte(out)) }) // must not panic
}
