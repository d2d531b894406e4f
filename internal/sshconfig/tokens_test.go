package sshconfig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// load reads text as a user's file, in a home of its own.
func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Options{File: file, Local: Local{User: "me", UID: "1000", Home: "/home/me", Host: "box.example", Getenv: func(name string) (string, bool) {
		value, is := map[string]string{"KEYS": "/keys", "SSH_AUTH_SOCK": "/agent", "OTHER": "/other"}[name]
		return value, is
	}}})
}

func settingsOf(t *testing.T, text string, q Query) (Settings, error) {
	t.Helper()
	c, err := load(t, text)
	if err != nil {
		return Settings{}, err
	}
	r, err := c.Lookup(t.Context(), q)
	if err != nil {
		return Settings{}, err
	}
	return r.Settings()
}

// All settings come out in the form in which they are used.
func TestSettings(t *testing.T) {
	const all = `
HostName %h.example
Port 2222
User deploy
IdentityFile ~/.ssh/id-%n
IdentityFile ${KEYS}/%r@%h:%p
IdentityFile none
IdentitiesOnly yes
CertificateFile %d/cert-%L-%l-%i-%u-%k
IdentityAgent SSH_AUTH_SOCK
StrictHostKeyChecking no
HostKeyAlias alias
UserKnownHostsFile ~/known /known-%k
GlobalKnownHostsFile /global
KnownHostsCommand "/bin/key finder" '%H %I' %n%%h %% ${KEYS} # %K
RevokedHostKeys ~/revoked /revoked-%h ${KEYS}
HashKnownHosts yes
ProxyCommand nc -x %n %h %p %r %%
ConnectTimeout 1m
ServerAliveInterval 0
ServerAliveCountMax 4
AddressFamily inet
BindAddress 127.0.0.2
Ciphers +a
KexAlgorithms ^b
MACs -c
HostKeyAlgorithms d
PubkeyAcceptedAlgorithms e
`
	got, err := settingsOf(t, all, Query{Host: "web"})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{Addr: "web.example", Port: 2222, User: "deploy", SSH: inventory.SSH{
		Identities: []string{"/home/me/.ssh/id-web", "/keys/deploy@web.example:2222", "none"}, IdentitiesOnly: true,
		Certificates: []string{"/home/me/cert-box-box.example-1000-me-alias"}, Agent: "/agent",
		HostKeys: "insecure", HostKeyAlias: "alias", KnownHosts: []string{"/home/me/known", "/known-alias"}, GlobalKnownHosts: []string{"/global"},
		KnownHostsCommand: []string{"/bin/key finder", "%H %I", "web%%h", "%%", "/keys", "#", "%K"},
		RevokedHostKeys:   []string{"/home/me/revoked", "/revoked-web.example", "/keys"},
		HashKnownHosts:    true, ProxyCommand: "nc -x web web.example 2222 deploy %", ConnectTimeout: time.Minute, KeepaliveInterval: -1,
		KeepaliveCount: 4, AddressFamily: "inet", BindAddress: "127.0.0.2", Ciphers: "+a", KeyExchanges: "^b", MACs: "-c",
		HostKeyAlgorithms: "d", PubkeyAlgorithms: "e",
	}}
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("got\n%s, want\n%s", g, w)
	}
	// What is said elsewhere goes before, also in tokens.
	got, err = settingsOf(t, "User file\nPort 7\nProxyJump file\nIdentityFile /%r-%p-%j\n", Query{Host: "h", User: "flag", Port: 8, Jump: "j"})
	if err != nil || got.User != "flag" || got.Port != 8 || got.Jump != "j" || got.SSH.Identities[0] != "/flag-8-j" {
		t.Error(got, err)
	}
	got, err = settingsOf(t, "IdentityAgent $OTHER\nProxyJump %r@gate-%n:%p\nAddressFamily any", Query{Host: "h", User: "u"})
	if err != nil || got.SSH.Agent != "/other" || got.Jump != "u@gate-h:22" || got.SSH.AddressFamily != "" {
		t.Error(got, err)
	}
	// Nothing said is nothing.
	got, err = settingsOf(t, "", Query{Host: "h"})
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", Settings{Addr: "h"}) {
		t.Error(got, err)
	}
}

// What a KnownHostsCommand is given is what was said, whatever it looks like; a program is named by its path.
func TestKnownHostsCommand(t *testing.T) {
	key := func(t byte) string { return "<" + string(t) + "%h>" }
	for text, want := range map[string]string{
		`/find %H %I %t %f %K %%H`:    `["/find" "<H%h>" "<I%h>" "<t%h>" "<f%h>" "<K%h>" "%H"]`,
		`/%H%h %h`:                    `["/%H%h" "a%hb"]`,
		`/find ${ODD} %%${ODD} %%%%h`: `["/find" "%K%%x" "%%K%%x" "%%h"]`,
		`/find "" 'a # b' c\ d`:       `["/find" "" "a # b" "c d"]`,
		`NONE`:                        `[]`,
	} {
		c, err := load(t, "HostName a%%Hb\nKnownHostsCommand "+text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		c.local.Getenv = func(string) (string, bool) { return "%K%%x", true }
		r, err := c.Lookup(t.Context(), Query{Host: "web"})
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Settings()
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		argv, err := ExpandKeyTokens(s.SSH.KnownHostsCommand, key)
		if got := fmt.Sprintf("%q", argv); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"find %H": "begins with the absolute path", "~/find": "begins with the absolute path", `""`: "begins with the absolute path",
		"/find %T": "no token %T", "/find ${NOT_SET}": "no variable NOT_SET", "/find %n": "could take it for an option",
	} {
		_, err := settingsOf(t, "KnownHostsCommand "+text+"\n", Query{Host: "-web"})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "config:1: KnownHostsCommand: ") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// The names of key files are those that the real ssh looks for.
func TestSSHExpandsTheSame(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	text := "HostName %h.example\nPort 44\nHostKeyAlias alias\nIdentityFile ~/%r-%n-%h-%p-%k-%C-%d-%i-%L-%l-%u-%%\nIdentityFile /${HOME}/x\nProxyCommand false\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", "-v", "-F", file, "who@where").CombinedOutput()
	if err == nil {
		t.Fatal("ssh connected")
	}
	var theirs []string
	for line := range strings.Lines(string(out)) {
		if _, after, is := strings.Cut(line, "debug1: identity file "); is {
			name, _, _ := strings.Cut(after, " type ")
			if !strings.HasSuffix(name, "-cert") {
				theirs = append(theirs, filepath.Clean(name))
			}
		}
	}
	c, err := testConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Lookup(t.Context(), Query{Host: "where", User: "who"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Settings()
	if err != nil || fmt.Sprint(theirs) != fmt.Sprint(s.SSH.Identities) {
		t.Errorf("ssh looks for %q, we for %q: %v\n%s", theirs, s.SSH.Identities, err, out)
	}
}

// What is wrong is told with its place, all of it at once.
func TestErrors(t *testing.T) {
	for text, want := range map[string][]string{
		"Prot 22\n\nHost a\n Port 0\n":                   {`config:1: unknown keyword "prot"; IgnoreUnknown above it lets it pass`, `config:4: Port: "0" is not a port from 1 to 65535`, "-F none"},
		"Match exec\nMatch tagged x\nUser \"a":           {"config:1: match: exec: the value is missing", "config:2: match: tagged is not supported here", "config:3: user: a quote is not closed"},
		"HostName %p":                                    {`config:1: HostName: "%p": there is no token %p here`},
		"HostName 50%":                                   {"ends with a single %"},
		"IdentityFile ${NOPE}/x":                         {"config:1: IdentityFile: the environment has no variable NOPE"},
		"IdentityFile ${x":                               {"a variable is written ${NAME}"},
		"IdentityFile ~nobody-of-that-name/x":            {"config:1: IdentityFile: ", "nobody-of-that-name"},
		"ProxyCommand nc %C":                             {"config:1: ProxyCommand: ", "there is no token %C here"},
		"ProxyJump a:b":                                  {"config:1: ProxyJump: jump host"},
		"Match exec \"kill -9 $$\"":                      {`config:1: match exec "kill -9 $$": signal: killed`},
		"Match exec \"%z\"":                              {"config:1: match exec: "},
		"User a\x00b":                                    {"config:1: there is a NUL in this line"},
		"Include ~nobody-of-that-name/x\nInclude [\n":    {"config:1: include: ", `config:2: include: "["`},
		"StrictHostKeyChecking sometimes":                {"use yes, ask, accept-new or no"},
		"ServerAliveInterval 1y":                         {`"1y" is not a time such as 90, 90s or 1m30s`},
		"ServerAliveInterval 99999999999999999999":       {"is not a time"},
		"Ciphers +":                                      {`"+" names no algorithm`},
		"Match all all":                                  {"config:1: match: all stands alone"},
		"Match sunshine":                                 {`unknown criterion "sunshine"; there are all, canonical,`},
		"GlobalKnownHostsFile none /x\nPort 2 3\nHost #": {"none stands alone", `more than one value: "3"`, "config:3: host: a name is empty"},
	} {
		_, err := settingsOf(t, text, Query{Host: "h"})
		if err == nil {
			t.Errorf("%q is taken", text)
			continue
		}
		var f *fault.Fault
		if !errors.As(err, &f) || f.Kind != fault.Environment {
			t.Errorf("%q: no fault: %v", text, err)
		}
		all := err.Error() + " " + f.Remedy
		for _, w := range want {
			if !strings.Contains(all, w) {
				t.Errorf("%q: %v, want %q in it", text, all, w)
			}
		}
	}
	if _, err := Load(Options{File: filepath.Join(t.TempDir(), "config")}); err == nil || !strings.Contains(err.Error(), "/config: there is no such file") {
		t.Error(err)
	}
	c, err := Load(Options{File: None})
	if err != nil || !c.Empty() {
		t.Error(err)
	}
}

// A file that others can write to, or that is included and somebody else's, has no say.
func TestOthersMustNotWrite(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	system := filepath.Join(home, "etc", "ssh_config")
	read := func() (Settings, error) {
		c, err := Load(Options{Local: Local{Home: home}, System: system})
		if err != nil {
			return Settings{}, err
		}
		r, err := c.Lookup(t.Context(), Query{Host: "h"})
		if err != nil {
			return Settings{}, err
		}
		return r.Settings()
	}
	if s, err := read(); err != nil || s.User != "" {
		t.Fatal(s, err) // no file at all is fine
	}
	write(filepath.Join(home, ".ssh", "config"), "Include more\n", 0o600)
	write(filepath.Join(home, ".ssh", "more"), "User mine\n", 0o600)
	write(system, "Include ssh_config.d/*.conf\n", 0o664) // the system's is not looked at, as with ssh
	write(filepath.Join(home, "etc", "ssh_config.d", "a.conf"), "User theirs\nPort 99\n", 0o600)
	if s, err := read(); err != nil || s.User != "mine" || s.Port != 99 {
		t.Fatal(s, err)
	}
	write(filepath.Join(home, ".ssh", "more"), "User mine\n", 0o620)
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "/more: others can write to it") {
		t.Error(err)
	}
	write(filepath.Join(home, ".ssh", "config"), "User x\n", 0o602)
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "/config: others can write to it") {
		t.Error(err)
	}
	write(filepath.Join(home, ".ssh", "config"), "", 0o600)
	write(system, "Include ~/x\n", 0o644)
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "files of the system don't include those of a user") {
		t.Error(err)
	}
}

// A command is run once for all hosts that it is the same for, has a time limit, and ends with the lookup.
func TestMatchExec(t *testing.T) {
	t.Setenv("SHELL", "")
	count := filepath.Join(t.TempDir(), "count")
	c, err := load(t, fmt.Sprintf("Match exec \"echo %%%%u >> %s\"\n  User yes\n", count))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		r, err := c.Lookup(t.Context(), Query{Host: fmt.Sprint("h", i)})
		if err != nil || r.Values(User)[0].Text[0] != "yes" || r.Values(User)[0].Origin.Line != 2 {
			t.Fatal(err)
		}
	}
	if data, err := os.ReadFile(count); err != nil || string(data) != "%u\n" {
		t.Errorf("%q, %v", data, err)
	}
	c, err = load(t, "Match exec \"sleep 1000\"\n")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Lookup(ctx, Query{Host: "h"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// Lists of algorithms keep to what there is.
func TestAlgorithms(t *testing.T) {
	defaults, supported := []string{"a1", "a2", "b1"}, []string{"a1", "a2", "a3", "b1", "c1"}
	for spec, want := range map[string]string{
		"": "a1 a2 b1", "c1,a1": "c1 a1", "+c1,a1": "a1 a2 b1 c1", "^c1,b1": "c1 b1 a1 a2", "-a*": "b1", "a*": "a1 a2 a3",
		"nope": "", "+nope": "a1 a2 b1", "^a?": "a1 a2 a3 b1",
	} {
		if got := strings.Join(Algorithms(spec, defaults, supported), " "); got != want {
			t.Errorf("%q: %s, want %s", spec, got, want)
		}
	}
}

// Names that come from elsewhere never become commands.
func TestNamesAreNoCommands(t *testing.T) {
	const command = "ProxyCommand nc -l %r %h %p\n"
	for _, q := range []Query{
		{Host: "$(id)"}, {Host: "a;id"}, {Host: "-oProxyCommand=id"}, {Host: "a b"}, {Host: "h", User: "`id`"}, {Host: "h", User: "a\nb"}, {Host: "h", User: "-l"},
		{Host: "h", User: `corp\me`}, {Host: "h", User: "a'b"}, {Host: "h", User: "a|b"}, {Host: "h", User: "ü"}, {Host: "h*"}, {Host: "h", User: "a&"},
	} {
		if s, err := settingsOf(t, command, q); err == nil || !strings.Contains(err.Error(), "config:1: ProxyCommand: ") || !strings.Contains(err.Error(), "is no name that is put into a command") {
			t.Errorf("%+v: %q, %v", q, s.SSH.ProxyCommand, err)
		}
		ran := filepath.Join(t.TempDir(), "ran")
		if _, err := settingsOf(t, fmt.Sprintf("Match exec \"touch %s; : %%h %%r\"\n", ran), q); err == nil || !strings.Contains(err.Error(), "config:1: match exec: ") {
			t.Errorf("%+v: %v", q, err)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Errorf("%+v: the command was run", q)
		}
		if _, err := settingsOf(t, "IdentityFile ~/%r-%h\n", q); err != nil { // no command
			t.Error(err)
		}
	}
	for _, q := range []Query{{Host: "2001:db8::1%eth0", User: "me@corp.example"}, {Host: "h_1.example", User: "a+b"}} {
		if s, err := settingsOf(t, command, q); err != nil || s.SSH.ProxyCommand != "nc -l "+q.User+" "+q.Host+" 22" {
			t.Error(s, err)
		}
	}
	// What the file itself says is its own.
	if s, err := settingsOf(t, "User $(whoami)\nHostName $(hostname)\n"+command, Query{Host: "h"}); err != nil || s.SSH.ProxyCommand != "nc -l $(whoami) $(hostname) 22" {
		t.Error(s, err)
	}
}

// The page names all keywords that count, and no other as one that does.
func TestTheKeywordsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/ssh-config.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "## What counts")
	table, _, end := strings.Cut(table, "\nTokens (")
	if !found || !end {
		t.Fatal("the page has another form")
	}
	for _, k := range Keywords() {
		if !strings.Contains(table, "`"+k.String()+"`") {
			t.Errorf("%s is not documented", k)
		}
	}
	for row := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for i, name := range strings.Split(first, "`") {
			if k, known := byName[strings.ToLower(name)]; i%2 == 1 && (!known || k == unused) {
				t.Errorf("%s does not count", name)
			}
		}
	}
}
