package probe

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// local runs what a host would run, on this machine: the command line through a login shell.
type local struct {
	login []string // such as "fish", "-c"; the command line follows
	sh    []string // replaces /bin/sh in the command line when no login shell is given
	env   []string
	wrap  []string // such as unshare …
}

func (l local) Exec(ctx context.Context, e sshconn.Exec) error {
	args := append([]string{}, l.wrap...)
	switch {
	case l.login != nil:
		args = append(append(args, l.login...), e.Command)
	case l.sh != nil:
		args = append(append(args, l.sh...), strings.Fields(e.Command)[1:]...)
	default:
		args = append(args, "/bin/sh", "-c", e.Command)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = l.env, e.Stdin, e.Stdout, e.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &sshconn.ExitError{Code: exit.ExitCode()}
	}
	return err
}

// tempDir is shorter than what t.TempDir gives, since a base directory has to leave room for sockets.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "probe")
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

// home makes a home directory and the environment that sshd gives.
func home(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir = tempDir(t)
	return dir, []string{"HOME=" + dir, "USER=tester", "LOGNAME=tester", "SHELL=/bin/sh", "PATH=/usr/local/bin:/usr/bin:/bin"}
}

func ask(t *testing.T, l local, r Request) Facts {
	t.Helper()
	if r.Run == "" {
		r.Run, r.Host = "abc123", "web1"
	}
	f, err := Run(t.Context(), l, r)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var shells = map[string]local{
	"dash":         {sh: []string{"dash"}},
	"bash":         {sh: []string{"bash"}},
	"bash-posix":   {sh: []string{"bash", "--posix"}},
	"busybox":      {sh: []string{"busybox", "sh"}},
	"fish login":   {login: []string{"fish", "-c"}},
	"tcsh login":   {login: []string{"tcsh", "-c"}},
	"noisy login":  {login: []string{"/bin/sh", "-c", `echo welcome; printf 'no newline'; eval "$1"; echo bye; exit 3`, "sh"}},
	"no PATH, sh":  {sh: []string{"/usr/bin/env", "-u", "PATH", "dash"}},
	"bash no file": {sh: []string{"bash", "--norc"}},
}

func TestEveryShellGivesTheSameFacts(t *testing.T) {
	prefix := tempDir(t)
	base := BaseDir(prefix, os.Geteuid())
	sha := strings.Repeat("ab", 32)
	mkfile(t, filepath.Join(base, CacheDir, sha, "shim"), 0o700)
	mkfile(t, filepath.Join(base, CacheDir, sha, ".part"), 0o700)
	mkfile(t, filepath.Join(base, CacheDir, sha, "not-executable"), 0o600)
	mkfile(t, filepath.Join(base, CacheDir, "short", "shim"), 0o700)
	mkfile(t, filepath.Join(base, CacheDir, sha, "odd name\nrejected=x"), 0o700)
	homeDir, env := home(t)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range shells {
		t.Run(name, func(t *testing.T) {
			l.env = env
			f := ask(t, l, Request{Prefix: prefix})
			if f.OS != "linux" || f.Arch == "" || f.Kernel == "" || f.BootID != strings.TrimSpace(string(boot)) {
				t.Errorf("system: %+v", f)
			}
			if f.UID != os.Geteuid() || f.User == "" || f.Home != homeDir || f.Shell != "/bin/sh" {
				t.Errorf("user: %+v", f)
			}
			if f.Base != base || !f.BaseExists || len(f.Rejected) != 0 || f.FreeBytes <= 0 {
				t.Errorf("base: %+v", f)
			}
			if len(f.Cached) != 1 || f.Cached[0] != sha+"/shim" {
				t.Errorf("cached: %q", f.Cached)
			}
			if !f.Tools.Gzip || f.Tools.SHA256 != "sha256sum" {
				t.Errorf("tools: %+v", f.Tools)
			}
			nothingLeft(t, prefix, base)
		})
	}
}

func mkfile(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("x"), mode); err != nil {
		t.Fatal(err)
	}
}

// nothingLeft fails when the probe left its file in one of dirs.
func nothingLeft(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		for _, pattern := range []string{".probe-*", ".mgmt-remote-*"} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(found) > 0 {
				t.Errorf("left behind: %v %v", found, err)
			}
		}
	}
}

func TestANewBaseIsNotMade(t *testing.T) {
	prefix := tempDir(t)
	_, env := home(t)
	f := ask(t, local{env: env}, Request{Prefix: prefix})
	if f.Base != BaseDir(prefix, os.Geteuid()) || f.BaseExists {
		t.Fatalf("%+v", f)
	}
	if entries, err := os.ReadDir(prefix); err != nil || len(entries) != 0 {
		t.Fatalf("%v %v", entries, err)
	}
}

// shimRecord is what a shim of this process would write.
func shimRecord(t *testing.T, pid int, start string) string {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return `{"pid":` + strconv.Itoa(pid) + `,"start":"` + start + `","boot_id":"` + strings.TrimSpace(string(boot)) +
		`","argv0":"\"pid\":1","starter":{"pid":1,"start":"1"},"payload":{"pid":1,"start":"1"}}` + "\n"
}

func startOf(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return strings.Fields(string(rest))[19]
}

func TestSessionStates(t *testing.T) {
	me := os.Getpid()
	for name, tc := range map[string]struct {
		record string // "" = none
		want   SessionState
	}{
		"prepared":        {"", SessionPrepared},
		"live":            {shimRecord(t, me, startOf(t, me)), SessionLive},
		"no newline":      {strings.TrimSpace(shimRecord(t, me, startOf(t, me))), SessionLive},
		"pid used again":  {shimRecord(t, me, "1"), SessionStarted},
		"pid not there":   {shimRecord(t, 1<<22+1, "1"), SessionStarted},
		"another boot":    {strings.Replace(shimRecord(t, me, startOf(t, me)), `"boot_id":"`, `"boot_id":"0`, 1), SessionStarted},
		"broken record":   {"{", SessionStarted},
		"empty record":    {"\n", SessionStarted},
		"hostile pid":     {`{"pid":"../../etc","start":"1"}`, SessionStarted},
		"hostile command": {`{"pid":$(touch /tmp/x),"start":"` + "`id`" + `"}`, SessionStarted},
	} {
		for shell, l := range shells {
			t.Run(name+"/"+shell, func(t *testing.T) {
				homeDir, env := home(t)
				l.env = env
				prefix := tempDir(t)
				// A session in another candidate is found although new ones would be made elsewhere.
				base := BaseDir(homeDir+"/.cache", os.Geteuid())
				dir := SessionDir(base, "abc123", "web1")
				mkfile(t, dir+"/"+SpecFile, 0o600)
				if tc.record != "" {
					if err := os.WriteFile(dir+"/"+RecordFile, []byte(tc.record), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				f := ask(t, l, Request{Prefix: prefix})
				if want := (Session{Base: base, Dir: dir, State: tc.want}); len(f.Sessions) != 1 || f.Session() != want {
					t.Fatalf("got %+v, want %+v", f.Sessions, want)
				}
				if f.Base != BaseDir(prefix, os.Geteuid()) {
					t.Errorf("base %q", f.Base)
				}
			})
		}
	}
}

// TestSessionThatGoesMeanwhile: a session that is cleaned up while the probe looks at it is not there. Were it reported as
// prepared, an initiator that does not know how far its start got would start the payload again.
func TestSessionThatGoesMeanwhile(t *testing.T) {
	prefix := tempDir(t)
	_, env := home(t)
	dir := SessionDir(BaseDir(prefix, os.Geteuid()), "abc123", "web1")
	mkfile(t, dir+"/"+SpecFile, 0o600)
	mkfile(t, dir+"/"+RecordFile, 0o600)
	// A function of bash stands between the two looks.
	env = append(env, `BASH_FUNC_[%%=() { if builtin [ "$1 $2" = "-f $SESSION/`+RecordFile+`" ]; then mv "$SESSION" "$SESSION.gone"; fi; builtin [ "$@"; }`,
		"SESSION="+dir)
	f := ask(t, local{sh: []string{"bash"}, env: env}, Request{Prefix: prefix})
	if _, err := os.Stat(dir + ".gone"); err != nil {
		t.Fatalf("the session did not go while the probe looked: %v", err)
	}
	if len(f.Sessions) != 0 {
		t.Errorf("%+v", f.Sessions)
	}
}

func TestSessionsOfOthersAreNotReported(t *testing.T) {
	prefix, elsewhere := tempDir(t), tempDir(t)
	_, env := home(t)
	base, old := BaseDir(prefix, os.Geteuid()), BaseDir(elsewhere, os.Geteuid())
	mkfile(t, base+"/abc123/web2/"+SpecFile, 0o600)
	mkfile(t, base+"/abc124/web1/"+SpecFile, 0o600)
	mkfile(t, old+"/abc123/web1/"+SpecFile, 0o600)
	if f := ask(t, local{env: env}, Request{Prefix: prefix}); len(f.Sessions) != 0 {
		t.Errorf("%+v", f.Sessions)
	}
	if f := ask(t, local{env: env}, Request{Prefix: prefix, Bases: []string{old, base}}); len(f.Sessions) != 1 || f.Sessions[0].Base != old {
		t.Errorf("%+v", f.Sessions)
	}
}

func TestLongNamesAreFound(t *testing.T) {
	prefix := tempDir(t)
	_, env := home(t)
	long := strings.Repeat("h", 63)
	dir := SessionDir(BaseDir(prefix, os.Geteuid()), "abc123", long)
	mkfile(t, dir+"/"+SpecFile, 0o600)
	f := ask(t, local{env: env}, Request{Prefix: prefix, Run: "abc123", Host: long})
	if f.Session().Dir != dir {
		t.Fatalf("%+v, want %s", f.Sessions, dir)
	}
}

func TestAnswerOfSomethingElse(t *testing.T) {
	for name, tc := range map[string]struct{ login, want string }{
		"nologin": {"echo This account is currently not available.; exit 1", "This account is currently not available."},
		"silent":  {"exit 127", "nothing instead"},
		"cut off": {"cat | sed -n 's/^marker=//p' | sed 's/$/ BEGIN/'; echo os=Linux", "breaks off"},
	} {
		t.Run(name, func(t *testing.T) {
			_, env := home(t)
			_, err := Run(t.Context(), local{env: env, login: []string{"/bin/sh", "-c", tc.login}}, Request{Run: "a", Host: "web1"})
			if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v", err)
			}
		})
	}
}
