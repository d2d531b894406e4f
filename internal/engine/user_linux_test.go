package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// converge checks that r has to do what words say, does it, and checks that nothing is left. To look must change nothing.
func converge(t testing.TB, r resource, words string) {
	t.Helper()
	before := snapshot(t)
	change, err := r.check(t.Context())
	if err != nil || change != words {
		t.Errorf("to do is %q, %v; want %q", change, err, words)
	}
	if after := snapshot(t); after != before {
		t.Errorf("check changed something: %s", firstDifference(before, after))
	}
	if out, err := r.apply(t.Context()); err != nil && !errors.Is(err, errUnchanged) {
		t.Errorf("%s: %v\n%s", words, err, out)
	}
	if change, err = r.check(t.Context()); err != nil || change != "" {
		t.Errorf("after apply there is still to do: %q, %v", change, err)
	}
}

// refuse checks that apply fails with an error that has words, and that it changes nothing.
func refuse(t testing.TB, r resource, words string) {
	t.Helper()
	before := snapshot(t)
	out, err := r.apply(t.Context())
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want %q\n%s", err, words, out)
	}
	if after := snapshot(t); after != before {
		t.Errorf("a failed apply changed something: %s", firstDifference(before, after))
	}
}

// snapshot is what /etc holds, and what is installed.
func snapshot(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk("/etc", func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		data := ""
		if info.Mode().IsRegular() && info.Size() < 1<<20 {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data = string(content)
		}
		fmt.Fprintf(&b, "%s %v %v %q\n", path, info.Mode(), info.ModTime(), data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/var/lib/dpkg/status", "/repo-rpm/state"} {
		fmt.Fprintf(&b, "%s %q\n", path, read(t, path))
	}
	return b.String()
}

func firstDifference(before, after string) string {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%.300s → %.300s", a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines → %d lines", len(a), len(b))
}

func userOf(t testing.TB, name string, spec graph.User) resource {
	t.Helper()
	r, err := newUser(name, &spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func groupOf(t testing.TB, name string, spec graph.Group) resource {
	t.Helper()
	r, err := newGroup(name, &spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sh runs a script, which must succeed.
func sh(t testing.TB, script string, args ...any) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", fmt.Sprintf(script, args...)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", fmt.Sprintf(script, args...), err, out)
	}
	return string(out)
}

// entry is the line of a file that begins with a name.
func entry(t testing.TB, path, name string) string {
	t.Helper()
	for line := range strings.Lines(read(t, path)) {
		if strings.HasPrefix(line, name+":") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func TestGroupTools(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		converge(t, groupOf(t, "crew", graph.Group{GID: ptr(uint32(4242))}), "create group crew")
		if got := entry(t, groupFile, "crew"); got != "crew:x:4242:" {
			t.Errorf("it is %q", got)
		}
		converge(t, groupOf(t, "crew", graph.Group{}), "")
		sh(t, "groupmod -g 4243 crew") // drift
		converge(t, groupOf(t, "crew", graph.Group{GID: ptr(uint32(4242))}), "gid 4243 → 4242")
		refuse(t, groupOf(t, "crew", graph.Group{GID: ptr(uint32(0))}), "gid 0 is taken by group root")
		refuse(t, groupOf(t, "root", graph.Group{State: graph.Absent}), "it is the primary group of user root")
		refuse(t, groupOf(t, strings.Repeat("x", 100), graph.Group{}), "is not a valid group name")
		converge(t, groupOf(t, "crew", graph.Group{State: graph.Absent}), "remove group crew")
	})
}

func TestUserTools(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		sh(t, "groupadd -g 4242 crew; groupadd deck; groupadd galley")
		full := graph.User{UID: ptr(uint32(4711)), Group: "crew", Groups: []string{"deck", "galley"}, HomeDir: "/srv/bob", Shell: "/bin/sh"}
		converge(t, userOf(t, "bob", full), "create user bob")
		if got := entry(t, passwdFile, "bob"); got != "bob:x:4711:4242::/srv/bob:/bin/sh" {
			t.Errorf("it is %q", got)
		}
		if password := strings.Split(entry(t, "/etc/shadow", "bob"), ":")[1]; password != "!" {
			t.Errorf("the password is not locked: %q", password)
		}
		if read(t, "/srv/bob") != "-" {
			t.Error("there is a home directory")
		}
		converge(t, userOf(t, "bob", full), "")

		sh(t, "usermod -u 4712 -g deck -G crew -d /x -s /bin/false bob") // drift
		converge(t, userOf(t, "bob", full), "uid 4712 → 4711, primary group deck ("+gid(t, "deck")+") → crew (4242), "+
			"home directory /x → /srv/bob, shell /bin/false → /bin/sh, groups crew → deck,galley")
		converge(t, userOf(t, "bob", graph.User{}), "") // what is not declared is not managed
		converge(t, userOf(t, "bob", graph.User{Groups: []string{}}), "groups deck,galley → none")

		refuse(t, userOf(t, "eve", graph.User{UID: ptr(uint32(4711))}), "uid 4711 is taken by user bob")
		refuse(t, userOf(t, "eve", graph.User{Groups: []string{"crew", "no"}}), "there is no group no")
		refuse(t, userOf(t, "eve", graph.User{HomeDir: "a:b"}), "invalid home directory")
		twin := graph.User{UID: ptr(uint32(4711)), AllowDuplicateUID: true, GID: ptr(uint32(4242))}
		converge(t, userOf(t, "eve", twin), "create user eve")
		converge(t, userOf(t, "eve", graph.User{State: graph.Absent}), "remove user eve")

		sh(t, "groupadd carl")
		converge(t, userOf(t, "carl", graph.User{}), "create user carl") // there is a group of that name already
		converge(t, userOf(t, "bob", graph.User{State: graph.Absent}), "remove user bob")
	})
}

func gid(t testing.TB, group string) string {
	t.Helper()
	return strings.Split(entry(t, groupFile, group), ":")[2]
}

// What usermod refuses is told in its words.
func TestUserInUse(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		converge(t, userOf(t, "bob", graph.User{}), "create user bob")
		u := userOf(t, "bob", graph.User{UID: ptr(uint32(4711))})
		sleeper := exec.Command("sleep", "1000")
		var uid uint32
		if _, err := fmt.Sscanf(strings.Split(entry(t, passwdFile, "bob"), ":")[2], "%d", &uid); err != nil {
			t.Fatal(err)
		}
		sleeper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		refuse(t, u, fmt.Sprintf("user bob is currently used by process %d", sleeper.Process.Pid))
		refuse(t, userOf(t, "bob", graph.User{State: graph.Absent}), "user bob is currently used by process")
		if err := sleeper.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = sleeper.Wait() // it was killed
		converge(t, u, fmt.Sprintf("uid %d → 4711", uid))
	})
}

// Many resources at once, in one process, while another program holds the lock at first.
func TestAccountsInParallel(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		holder := exec.Command("sleep", "1000")
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		write(t, "/etc/group.lock", fmt.Sprint(holder.Process.Pid)) // as shadow's own lock: valid while that process lives
		var wait sync.WaitGroup
		for i := range 8 {
			wait.Go(func() {
				r := groupOf(t, fmt.Sprintf("g%d", i), graph.Group{})
				if i%2 == 0 {
					r = userOf(t, fmt.Sprintf("u%d", i), graph.User{})
				}
				if out, err := r.apply(t.Context()); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), lockPause/2)
		defer cancel()
		if _, err := groupOf(t, "late", graph.Group{}).apply(ctx); err == nil || ctx.Err() == nil {
			t.Errorf("it did not wait for the lock, or not only until its context ended: %v", err)
		}
		if err := holder.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = holder.Wait() // it was killed
		wait.Wait()
		if entry(t, passwdFile, "u6") == "" || entry(t, groupFile, "g7") == "" {
			t.Errorf("not all is there: %s", read(t, groupFile))
		}
	})
}

// The engine heals what somebody else does to an account, because it watches the files.
func TestAccountDriftIsSeen(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		def := parseAccounts(t)
		r := start(t, def, Options{})
		defer r.stop()
		r.untilStatus(Quiet)
		sh(t, "usermod -s /bin/false bob")
		r.untilCount("user[bob]", Applied, 2)
		sh(t, "groupdel --force crew; userdel bob") // in this order and by force, it works however fast bob comes back
		r.until("both are back", func() bool { return entry(t, passwdFile, "bob") != "" && entry(t, groupFile, "crew") != "" })
		r.untilStatus(Quiet)
		bob, crew := entry(t, passwdFile, "bob"), entry(t, groupFile, "crew")
		if !strings.HasSuffix(bob, ":/bin/sh") || strings.Split(bob, ":")[3] != strings.Split(crew, ":")[2] {
			t.Errorf("it is %q, in the group %q", bob, crew)
		}
	})
}

// parseAccounts is a definition of a user with its group, made without the parser.
func parseAccounts(t testing.TB) *graph.Definition {
	t.Helper()
	def := parse(t, "resources: {noop: [{name: a}, {name: b}]}")
	crew, bob := graph.ID{Kind: graph.KindGroup, Name: "crew"}, graph.ID{Kind: graph.KindUser, Name: "bob"}
	def.Resources[0].ID, def.Resources[0].Spec = crew, &graph.Group{}
	def.Resources[1].ID, def.Resources[1].Spec = bob, &graph.User{Shell: "/bin/sh", Group: "crew"}
	def.Edges = append(def.Edges, graph.Edge{From: crew, To: bob})
	return def
}

// Whatever the accounts are and whatever is declared: either apply says why not and leaves all as it was, or there is
// nothing to do after it.
func TestAccountsProperty(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		names := rapid.SampledFrom([]string{"ann", "bob", "crew", "deck"})
		id := rapid.Ptr(rapid.Uint32Range(4000, 4003), true)
		deadline := time.Now().Add(8 * time.Second)
		rapid.Check(t, func(rt *rapid.T) {
			if time.Now().After(deadline) {
				return // real tools are slow; what was drawn until now is enough
			}
			var r resource
			if rapid.Bool().Draw(rt, "user") {
				spec := graph.User{
					State: rapid.SampledFrom([]graph.State{graph.Exists, graph.Exists, graph.Absent}).Draw(rt, "state"),
					UID:   id.Draw(rt, "uid"), AllowDuplicateUID: rapid.Bool().Draw(rt, "duplicate"),
					Shell: rapid.SampledFrom([]string{"", "/bin/sh", "/bin/bash"}).Draw(rt, "shell"),
				}
				switch rapid.IntRange(0, 2).Draw(rt, "primary") {
				case 0:
					spec.GID = id.Draw(rt, "gid")
				case 1:
					spec.Group = names.Draw(rt, "group")
				}
				if rapid.Bool().Draw(rt, "supplementary") {
					spec.Groups = rapid.SliceOfN(names, 0, 3).Draw(rt, "groups")
				}
				r = userOf(t, names.Draw(rt, "name"), spec)
			} else {
				state := rapid.SampledFrom([]graph.State{graph.Exists, graph.Exists, graph.Absent}).Draw(rt, "state")
				r = groupOf(t, names.Draw(rt, "name"), graph.Group{State: state, GID: id.Draw(rt, "gid")})
			}
			before := read(t, passwdFile) + read(t, groupFile)
			out, err := r.apply(t.Context())
			switch {
			case err != nil && read(t, passwdFile)+read(t, groupFile) != before:
				rt.Fatalf("%+v: failed (%v), but changed something\n%s", r, err, out)
			case err != nil:
				return
			}
			if change, err := r.check(t.Context()); err != nil || change != "" {
				rt.Fatalf("%+v: after apply there is still to do: %q, %v", r, change, err)
			}
		})
	})
}
