package sshconfig

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// sshG is what the real ssh, run by through if there is something, says about a host: the values of each keyword, in lower case.
func sshG(t interface{ Fatalf(string, ...any) }, file string, q Query, through ...string) (map[string][]string, error) {
	args := []string{"-G", "-F", file}
	if q.User != "" {
		args = append(args, "-l", q.User)
	}
	if q.Port != 0 {
		args = append(args, "-p", strconv.Itoa(q.Port))
	}
	if q.Jump != "" {
		args = append(args, "-J", q.Jump)
	}
	words := slices.Concat(through, []string{"ssh"}, args, []string{q.Host})
	cmd := exec.Command(words[0], words[1:]...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.Env = append(os.Environ(), "SHELL=/bin/sh")
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			t.Fatalf("openssh-client is needed, see make deps: %v", err)
		}
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}
	values := map[string][]string{}
	for line := range strings.Lines(out.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name = strings.ToLower(name) // but for one
		values[name] = append(values[name], value)
	}
	return values, nil
}

// defaultsOfSSH is what ssh says where no file says anything, and the algorithms that it has.
var defaultsOfSSH = sync.OnceValues(func() (map[string][]string, error) {
	all, err := sshG(nil, None, Query{Host: "x"})
	if err != nil {
		return nil, err
	}
	for k, query := range algorithmQueries {
		out, err := exec.Command("ssh", "-Q", query).Output()
		if err != nil {
			return nil, err
		}
		all["all "+k.String()] = strings.Fields(string(out))
	}
	return all, nil
})

var algorithmQueries = map[Keyword]string{
	Ciphers: "cipher", MACs: "mac", KexAlgorithms: "kex", HostKeyAlgorithms: "HostKeyAlgorithms", PubkeyAcceptedAlgorithms: "PubkeyAcceptedAlgorithms",
}

// asSSH writes a result as `ssh -G` does.
func asSSH(t interface{ Fatalf(string, ...any) }, r *Result) map[string][]string {
	defaults, err := defaultsOfSSH()
	if err != nil {
		t.Fatalf("%v", err)
	}
	ours := map[string][]string{}
	for _, k := range Keywords() {
		name := strings.ToLower(k.String())
		var texts []string
		for _, v := range r.Values(k) {
			texts = append(texts, strings.Join(v.Text, " "))
		}
		if len(texts) == 0 {
			texts = defaults[name]
		} else {
			switch k {
			case StrictHostKeyChecking:
				texts = []string{map[string]string{"yes": "true", "no": "false"}[texts[0]]}
				texts[0] = cmp.Or(texts[0], r.Values(k)[0].Text[0])
			case CanonicalizeHostname:
				texts[0] = map[string]string{"yes": "true", "no": "false", "always": "always"}[texts[0]]
			case UserKnownHostsFile, GlobalKnownHostsFile:
				words := slices.Clone(r.Values(k)[0].Text)
				for i, word := range words {
					if k == UserKnownHostsFile { // ssh looks at no "~" in names of the system
						words[i], _ = expandTilde(word, r.lookup.config.local.Home)
						words[i], err = expandTokens(words[i], fileTokens, r.lookup.token)
						if err != nil {
							t.Fatalf("%v", err)
						}
					}
				}
				texts = []string{strings.Join(words, " ")}
			case IdentityAgent:
				if texts[0], err = expandTilde(texts[0], r.lookup.config.local.Home); err != nil {
					t.Fatalf("%v", err)
				}
			case ProxyCommand, ProxyJump, RevokedHostKeys, KnownHostsCommand:
				if strings.EqualFold(texts[0], "none") {
					texts = nil
				}
			case ConnectTimeout, ServerAliveInterval:
				if texts[0] == "none" && k == ServerAliveInterval {
					texts = defaults[name]
				}
			case Ciphers, MACs, KexAlgorithms, HostKeyAlgorithms, PubkeyAcceptedAlgorithms:
				texts = []string{strings.Join(Algorithms(texts[0], strings.Split(defaults[name][0], ","), defaults["all "+k.String()]), ",")}
			}
		}
		ours[name] = texts
	}
	ours["user"], ours["port"], ours["hostname"] = []string{r.lookup.user()}, []string{r.lookup.port()}, []string{r.lookup.hostName()}
	if r.lookup.query.Jump != "" {
		ours["proxyjump"] = []string{r.lookup.query.Jump}
	}
	return ours
}

// same compares ssh's answer with ours, and returns what is different.
func same(theirs, ours map[string][]string) (problems []string) {
	for _, k := range Keywords() {
		name := strings.ToLower(k.String())
		want, got := theirs[name], ours[name]
		if k == ProxyJump && len(want)+len(got) == 2 { // ssh writes it in its own way
			a, _ := inventory.ParseJump(want[0])
			b, _ := inventory.ParseJump(got[0])
			if slices.Equal(a, b) && a != nil {
				continue
			}
		}
		if !slices.Equal(want, got) {
			problems = append(problems, fmt.Sprintf("%s: ssh has %q, we have %q", k, want, got))
		}
	}
	return problems
}

// testConfig reads a file as ssh does: with the home of the user database.
func testConfig(file string) (*Config, error) {
	home, err := exec.Command("sh", "-c", "getent passwd $(id -u) | cut -d: -f6").Output()
	if err != nil {
		return nil, err
	}
	return Load(Options{File: file, Local: Local{Home: strings.TrimSpace(string(home))}})
}

// Each file of testdata/ssh means for each host what the real ssh says; its first line names the hosts. A file that ssh
// refuses is refused.
func TestSSHSaysTheSame(t *testing.T) {
	t.Setenv("SHELL", "/bin/sh")
	files, err := filepath.Glob("testdata/ssh/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	dir := t.TempDir()
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.ReplaceAll(data, []byte("@DIR@"), []byte(dir))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range files {
		name = filepath.Base(name)
		if strings.HasPrefix(name, "inc-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			hosts, ok := strings.CutPrefix(first, "# hosts: ")
			if !ok {
				t.Fatalf("the first line names no hosts: %q", first)
			}
			config, loadErr := testConfig(file)
			for host := range strings.FieldsSeq(hosts) {
				var q Query
				q.User, q.Host, _ = strings.Cut(host, "@")
				if q.Host == "" {
					q.User, q.Host = "", host
				}
				if host, port, is := strings.Cut(q.Host, ","); is {
					q.Host = host
					q.Port, _ = strconv.Atoi(port)
				}
				theirs, theirErr := sshG(t, file, q)
				var r *Result
				err := loadErr
				if err == nil {
					if r, err = config.Lookup(t.Context(), q); err == nil {
						_, err = r.Settings()
					}
				}
				if (err != nil) != (theirErr != nil) {
					t.Errorf("%s: ssh says %v, we say %v", host, theirErr, err)
					continue
				}
				if err != nil {
					t.Logf("%s: both refuse it: %v", host, err)
					continue
				}
				for _, problem := range same(theirs, asSSH(t, r)) {
					t.Errorf("%s: %s", host, problem)
				}
			}
		})
	}
}

// Whatever blocks stand in a file, each value comes from where ssh takes it.
func TestSSHSaysTheSameOfRandomFiles(t *testing.T) {
	t.Setenv("SHELL", "/bin/sh")
	dir := t.TempDir()
	host := rapid.SampledFrom([]string{"a", "b", "a.x", "b.x", "A", "10.0.0.1"})
	pattern := rapid.SampledFrom([]string{"a", "b", "*.x", "a*", "?", "*", "!a", "!b.x", "A", "10.*", "q"})
	words := func(t *rapid.T, label string) string {
		return strings.Join(rapid.SliceOfN(pattern, 1, 3).Draw(t, label), " ")
	}
	line := rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 14).Draw(t, "kind") {
		case 0, 1:
			return "Host " + words(t, "patterns")
		case 2:
			return "Match host " + strings.ReplaceAll(words(t, "patterns"), " ", ",")
		case 3:
			return "Match !originalhost " + strings.ReplaceAll(words(t, "patterns"), " ", ",") + rapid.SampledFrom([]string{"", " user u1", " !user u*", ` exec "test %h = a"`}).Draw(t, "and")
		case 4:
			return rapid.SampledFrom([]string{"Match all", "Match final", "Match !final host *.x", "Match final host a*", "Match canonical"}).Draw(t, "match")
		case 5:
			return "HostName " + rapid.SampledFrom([]string{"%h.x", "a", "b.x", "%%", "B"}).Draw(t, "name")
		case 6:
			return "User " + rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "user")
		case 7:
			return "Port=" + strconv.Itoa(rapid.IntRange(1, 4).Draw(t, "port"))
		case 8:
			return "IdentityFile " + rapid.SampledFrom([]string{"~/a", `"b c"`, "none", "%d/x"}).Draw(t, "identity")
		case 9:
			return "ProxyJump " + rapid.SampledFrom([]string{"none", "j1", "u@j1:4,j2"}).Draw(t, "jump")
		case 10:
			return "ProxyCommand " + rapid.SampledFrom([]string{"none", "nc %h %p", `x "y`}).Draw(t, "command")
		case 11:
			return "\tStrictHostKeyChecking = " + rapid.SampledFrom([]string{"yes", "no", "ask", "accept-new"}).Draw(t, "strict")
		case 12:
			return "UserKnownHostsFile /k/%n ~/k2 # why"
		case 13:
			return "Ciphers " + rapid.SampledFrom([]string{"-aes*", "+aes128-cbc", "^aes256-ctr", "aes128-ctr"}).Draw(t, "ciphers")
		}
		return "HostKeyAlias " + rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "alias")
	})
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(line, 1, 25).Draw(t, "lines"), "\n") + "\n"
		n++
		file := filepath.Join(dir, strconv.Itoa(n))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		q := Query{Host: host.Draw(t, "host")}
		theirs, theirErr := sshG(t, file, q)
		config, err := testConfig(file)
		if err != nil && theirErr == nil {
			t.Fatalf("ssh reads it, we say %v", err)
		}
		if err != nil {
			return
		}
		r, err := config.Lookup(t.Context(), q)
		if (err != nil) != (theirErr != nil) {
			t.Fatalf("ssh says %v, we say %v", theirErr, err)
		}
		if err == nil {
			if problems := same(theirs, asSSH(t, r)); problems != nil {
				t.Fatalf("%s\n%s", strings.Join(problems, "\n"), text)
			}
		}
	})
}
