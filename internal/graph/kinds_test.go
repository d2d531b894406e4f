package graph

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const everyKind = `resources:
  file:
  - {name: parts, path: /etc/parts, fragments: [/etc/parts.d/, /usr//share/last]}
  - {name: tree, path: /srv/www/, source: /usr/share/www/, recurse: true}
  - {name: moved, path: /etc/a/b.conf, dirname: /opt/}
  - {name: renamed, path: /etc/a/b.conf, basename: c/}
  - {name: both, path: x, dirname: /opt/, basename: d, source: /etc//issue}
  - {name: "@@motd", path: /tmp/motd-a, content: "from a\n", mode: "0644"}
  - {name: "@@/tmp/dir/"}
  - {name: "@@issue", path: /tmp/issue-a, source: /etc/issue}
  svc:
  - {name: nginx, state: running, startup: enabled}
  - {name: getty@tty1, state: stopped, startup: disabled, session: true}
  - name: untouched
  pkg:
  - name: vim
  - {name: "libc6:i386", state: uninstalled}
  - {name: g++, state: newest, allowuntrusted: true}
  - {name: tmux, state: "1:3.3a-3~deb12u1", allowdowngrade: true}
  user:
  - {name: app, uid: 1000, gid: 0, groups: [wheel, docker], homedir: /srv/app, shell: /bin/sh}
  - {name: Bob.x-1, group: staff, groups: [], uid: 7, allowduplicateuid: true}
  - {name: gone, state: absent, uid: 7}
  group:
  - {name: staff, gid: 4294967294}
  - {name: old, state: absent}
  timer:
  - {name: hourly, interval: 3600}
  kv:
  - {name: app/version, value: "7", skiplessthan: true}
  - {name: mine, key: app/version, value: "", mapped: true, skiplessthan: true, skipcmpstyle: 1}
  - {name: gone, skipcmpstyle: int}
  noop:
  - {name: limited, meta: {limit: 0.5, burst: 3, sema: [a, "b:2"], autoedge: false}}
  - {name: once, meta: {limit: 2, sema: ["b:2", "a:1"], autoedge: true}}
  - {name: unlimited, meta: {limit: .inf}}
collect:
- {kind: file, pattern: /tmp//mgmt}
- {kind: File, pattern: /srv/, comment: c}
`

func TestEveryKind(t *testing.T) {
	def, err := Parse("f", []byte(everyKind))
	if err != nil {
		t.Fatal(err)
	}
	issue := "from a\n"
	mode := new(*def.Resources[5].Spec.(*File).Mode)
	for i, want := range []Spec{
		&File{Path: "/etc/parts", Fragments: []string{"/etc/parts.d/", "/usr/share/last"}},
		&File{Path: "/srv/www/", Source: "/usr/share/www/", Recurse: true},
		&File{Path: "/opt/b.conf"},
		&File{Path: "/etc/a/c/"},
		&File{Path: "/opt/d", Source: "/etc/issue"},
		&File{Path: "/tmp/motd-a", Content: &issue, Mode: mode},
		&File{Path: "/tmp/dir/"},
		&File{Path: "/tmp/issue-a", Source: "/etc/issue"},
		&Svc{State: RunningYes, Startup: StartupEnabled},
		&Svc{State: RunningNo, Startup: StartupDisabled, Session: true},
		&Svc{},
		&Pkg{State: PkgInstalled},
		&Pkg{State: PkgUninstalled},
		&Pkg{State: PkgNewest, AllowUntrusted: true},
		&Pkg{State: "1:3.3a-3~deb12u1", AllowDowngrade: true},
		&User{UID: new(uint32(1000)), GID: new(uint32(0)), Groups: []string{"wheel", "docker"}, HomeDir: "/srv/app", Shell: "/bin/sh"},
		&User{UID: new(uint32(7)), Group: "staff", Groups: []string{}, AllowDuplicateUID: true},
		&User{UID: new(uint32(7)), State: Absent},
		&Group{GID: new(uint32(4294967294))},
		&Group{State: Absent},
		&Timer{Interval: time.Hour},
		&KV{Key: "app/version", Value: new("7"), SkipLessThan: true},
		&KV{Key: "app/version", Value: new(""), Mapped: true, SkipLessThan: true, SkipCmpStyle: CmpString},
		&KV{Key: "gone"},
	} {
		if got := def.Resources[i]; !reflect.DeepEqual(got.Spec, want) || got.Exported() != (i >= 5 && i <= 7) {
			t.Errorf("%s: got %+v, want %+v", got.ID, got.Spec, want)
		}
	}
	for i, want := range []Meta{
		{Limit: 0.5, Burst: 3, Sema: []Sema{{"a", 1}, {"b", 2}}, NoAutoEdge: true},
		{Limit: 2, Burst: 1, Sema: []Sema{{"b", 2}, {"a", 1}}},
		{},
	} {
		if got := def.Resources[len(def.Resources)-3+i]; !reflect.DeepEqual(got.Meta, want) {
			t.Errorf("%s: got %+v, want %+v", got.ID, got.Meta, want)
		}
	}
	collect := []Collect{{Position{38, 3}, KindFile, "/tmp/mgmt/", ""}, {Position{39, 3}, KindFile, "/srv/", ""}}
	if !reflect.DeepEqual(def.Collect, collect) {
		t.Errorf("collect: %+v", def.Collect)
	}
}

// TestKeysAreComplete holds that Keys tells of each kind, and that the table of kinds and the specs agree.
func TestKeysAreComplete(t *testing.T) {
	keys := Keys()
	for i, k := range Kinds() {
		r := Resource{}
		kinds[i].read(newParser(""), &r)
		if r.Spec.kind() != k {
			t.Errorf("the spec of %s says that it is %s", k, r.Spec.kind())
		}
		if _, ok := keys[string(k)]; !ok {
			t.Errorf("no keys of %s", k)
		}
		if k != KindNoop && len(keys[string(k)]) == 0 {
			t.Errorf("%s has no keys", k)
		}
	}
	if got := strings.Join(keys["meta"], " "); got != "autoedge burst delay limit noop poll retry sema" {
		t.Errorf("meta: %s", got)
	}
}

// one makes a definition of one resource named x, or as the fields say.
func one(kind, fields string) string {
	if !strings.Contains(fields, "name:") {
		fields = "name: x, " + fields
	}
	return fmt.Sprintf("resources:\n  %s:\n  - {%s}\n", kind, fields)
}

func TestProblemsOfFiles(t *testing.T) {
	file := func(fields string) string { return one("file", "name: /a, "+fields) }
	wantProblems(t, map[string]problemCase{
		"dirname":             {file("dirname: /b"), []string{`3:25: dirname: "/b" does not end in a slash`}},
		"dirname relative":    {file("dirname: b/"), []string{`3:25: path: "b/a" is not absolute`}},
		"basename":            {file("basename: /b"), []string{`3:26: basename: "/b" begins with a slash`}},
		"absent with content": {file(`state: absent, content: ""`), []string{"3:40: content: the file should be absent"}},
		"absent, fragments":   {file("state: absent, fragments: [/b]"), []string{"3:42: fragments: the file should be absent"}},
		"three contents":      {file("content: x, source: /b, fragments: [/c]"), []string{"3:51: both content and source and fragments; give one of them"}},
		"source of a file":    {file("source: /b/"), []string{"3:24: source: path and source must both end in a slash, for directories, or neither"}},
		"source of directory": {file("path: /a/, source: /b"), []string{"3:35: source: path and source must both end in a slash, for directories, or neither"}},
		"no recurse":          {file("path: /a/, source: /b/"), []string{"3:35: source: copying a directory needs recurse: true"}},
		"into itself":         {file("path: /a/, source: /, recurse: true"), []string{"3:35: source: / would be copied into itself"}},
		"itself":              {file("source: /b/../a"), []string{"3:24: source: /a would be copied into itself"}},
		"fragment relative":   {file("fragments: [/b, c]"), []string{`3:32: fragments: "c" is not absolute`}},
		"fragment of itself":  {file("fragments: [/c, /b/../]"), []string{"3:32: fragments: /a would become a part of itself by /"}},
		"fragment itself":     {file("fragments: [/a]"), []string{"3:28: fragments: /a would become a part of itself by /a"}},
		"directory of parts":  {file("path: /a/, fragments: [/b]"), []string{"3:38: fragments: /a/ is a directory, since its path ends in a slash"}},
		"fragments no list":   {file("fragments: /b"), []string{`3:27: fragments: want a list, not the text "/b"`}},
		"symlink":             {file("symlink: true"), []string{`3:16: file resource: mgmt knows the key "symlink", but it is not supported by this version`}},
	})
}

func TestProblemsOfExchange(t *testing.T) {
	export := func(fields string) string { return one("file", `name: "@@m", path: /m, `+fields) }
	wantProblems(t, map[string]problemCase{
		"an exec":         {one("exec", `name: "@@x", cmd: reboot`), []string{"3:12: @@x: only files can be exported; a resource of the kind exec would let one host run commands on others"}},
		"without a name":  {one("file", `name: "@@"`), []string{"3:5: file resource without a name"}},
		"absent":          {export("state: absent"), []string{"3:36: state: an exported file can't be absent: it would remove files of other hosts"}},
		"force":           {export("content: x, force: true"), []string{"3:48: force: not for exported files: other hosts say themselves what may be replaced"}},
		"recurse":         {export("content: x, recurse: true"), []string{"3:50: recurse: not for exported files: one file is exported, not a tree"}},
		"tree":            {one("file", `name: "@@m", path: /m/, source: /s/`), []string{"3:12: recurse: not for exported files: one file is exported, not a tree"}},
		"fragments":       {export("fragments: [/b]"), []string{"3:40: fragments: not for exported files; give content or source"}},
		"setuid":          {export("content: x, mode: 4755"), []string{"3:47: mode: no setuid, setgid or sticky bit for exported files"}},
		"sticky":          {export("content: x, mode: 1755"), []string{"3:47: mode: no setuid, setgid or sticky bit for exported files"}},
		"dots":            {one("file", `name: "@@m", path: /m/.., content: x`), []string{`3:25: path: "/m/.." has no name that a file could get on other hosts`}},
		"root":            {one("file", `name: "@@/"`), []string{`3:12: path: "/" has no name that a file could get on other hosts`}},
		"no content":      {export("mode: 0644"), []string{"3:12: an exported file needs content or source, or a path that ends in a slash for a directory"}},
		"too large":       {export(`content: "` + strings.Repeat("x", MaxShared+1024) + `"`), []string{"3:38: content: 513 KiB; an exported file can have 512"}},
		"relative":        {one("file", `name: "@@m", content: x`), []string{`3:12: path: "m" is not absolute`}},
		"one base twice":  {"resources:\n  file:\n  - {name: \"@@a\", path: /a/m, content: x}\n  - {name: \"@@b\", path: /b/m/}", []string{"4:25: file[@@b]: a file m is exported by file[@@a]"}},
		"collect exec":    {"collect:\n- {kind: exec, pattern: /a}", []string{"2:10: collect: only files are exchanged; a resource of the kind exec would let another host run commands on this one"}},
		"collect virt":    {"collect:\n- {kind: fil, pattern: /a}", []string{`2:10: collect: unknown kind "fil"; did you mean "file"?`}},
		"collect nothing": {"collect:\n- {pattern: /a}\n- {kind: file}", []string{"2:3: collect: needs a kind: file", "3:3: collect: needs a pattern: the directory to place files in"}},
		"relative to":     {"collect:\n- {kind: file, pattern: a}", []string{`2:25: collect: pattern: "a" is not absolute`}},
		"collect twice":   {"collect:\n- {kind: file, pattern: /a}\n- {kind: file, pattern: /a/}", []string{"3:25: collect: line 2 does the same"}},
		"collect name":    {"collect:\n- {kind: file, pattern: /a, name: \"[\"}", []string{`2:35: collect: name: "[" is no pattern for names: syntax error in pattern`}},
	})
	if _, err := Parse("f", []byte("resources:\n  file:\n  - {name: \"@@m\", path: /m, content: x}\n  - {name: m, path: /m}\n")); err != nil {
		t.Errorf("an export and a file of this host share a path: %v", err)
	}
}

func TestProblemsOfTheSystem(t *testing.T) {
	wantProblems(t, map[string]problemCase{
		"service with suffix": {one("svc", "name: nginx.service"), []string{"3:12: name: without .service, as in mgmt: nginx"}},
		"service with slash":  {one("svc", "name: a/b"), []string{`3:12: name: "a/b" can't be a service: want letters, digits and any of : _ . @ \ -, at most 247`}},
		"service option":      {one("svc", "name: -a"), []string{`3:12: name: "-a" can't be a service: want letters, digits and any of : _ . @ \ -, at most 247`}},
		"service state":       {one("svc", "state: started, startup: true"), []string{`3:22: state: want running or stopped, not the text "started"`, "3:40: startup: want enabled or disabled, not true"}},
		"latest":              {one("pkg", "state: latest"), []string{`3:22: state: "latest"; did you mean newest?`}},
		"present":             {one("pkg", "state: present"), []string{`3:22: state: "present"; did you mean installed?`}},
		"no version":          {one("pkg", "state: --force-1"), []string{`3:22: state: "--force-1" is neither installed, uninstalled or newest nor a version`}},
		"version without":     {one("pkg", "state: here"), []string{`3:22: state: "here" is neither installed, uninstalled or newest nor a version`}},
		"version as a number": {one("pkg", "state: 1.10"), []string{"3:22: state: want text, not the number 1.10; quote it"}},
		"package option":      {one("pkg", "name: -y"), []string{`3:12: name: "-y" can't be a package: want letters, digits and any of + . _ : -, and no - at either end`}},
		"package to remove":   {one("pkg", "name: vim-"), []string{`3:12: name: "vim-" can't be a package: want letters, digits and any of + . _ : -, and no - at either end`}},
		"package with space":  {one("pkg", "name: a b"), []string{`3:12: name: "a b" can't be a package: want letters, digits and any of + . _ : -, and no - at either end`}},
		"package file":        {one("pkg", "name: /tmp/a.deb"), []string{`3:12: name: "/tmp/a.deb" is a path; installing package files is not supported by this version`}},
		"package key of mgmt": {one("pkg", "allownonfree: true"), []string{`3:15: pkg resource: mgmt knows the key "allownonfree", but it is not supported by this version`}},
		"no interval":         {one("timer", "comment: x"), []string{"3:12: timer[x] needs an interval, in seconds"}},
		"interval":            {one("timer", "interval: 0"), []string{"3:25: interval (seconds): 0 is not between 1 and 31622400"}},
		"user":                {one("user", "name: a b"), []string{`3:12: name: "a b" can't be a name: want a letter or _, then letters, digits and any of . _ -, at most 32 in all`}},
		"user too long":       {one("user", "name: "+strings.Repeat("a", 33)), []string{`3:12: name: "` + strings.Repeat("a", 33) + `" can't be a name: want a letter or _, then letters, digits and any of . _ -, at most 32 in all`}},
		"user root":           {one("user", "name: root, state: absent"), []string{"3:12: name: the user root can't be removed"}},
		"group root":          {one("group", "name: root, state: absent"), []string{"3:12: name: the group root can't be removed"}},
		"gid and group":       {one("user", "gid: 1, group: a"), []string{"3:30: both gid and group; give one of them"}},
		"groups":              {one("user", "groups: [a, -b, a]"), []string{`3:27: groups: "-b" can't be a name: want a letter or _, then letters, digits and any of . _ -, at most 32 in all`, "3:31: groups: a is given twice"}},
		"uid":                 {one("user", "uid: 4294967295, gid: -1"), []string{"3:20: uid: 4294967295 is not between 0 and 4294967294", "3:37: gid: -1 is not between 0 and 4294967294"}},
		"homedir, shell":      {one("user", `homedir: a, shell: "/a:b"`), []string{`3:24: homedir: want an absolute path without colons and control characters, not "a"`, `3:34: shell: want an absolute path without colons and control characters, not "/a:b"`}},
		"one uid":             {"resources:\n  user:\n  - {name: a, uid: 5, allowduplicateuid: true}\n  - {name: b, uid: 5}", []string{"4:20: uid: user[a] has 5 already; where that is meant, both need allowduplicateuid: true"}},
		"one gid":             {"resources:\n  group:\n  - {name: a, gid: 5}\n  - {name: b, gid: 5}", []string{"4:20: gid: group[a] has 5 already"}},
		"absent exec":         {one("exec", "cmd: a, state: absent"), []string{"3:30: state: an exec can only be present"}},
		"watchcmd of nothing": {one("exec", `cmd: a, watchcmd: " "`), []string{"3:33: watchcmd: only white space"}},
	})
}

func TestProblemsOfKeys(t *testing.T) {
	wantProblems(t, map[string]problemCase{
		"slash":         {one("kv", "key: /a"), []string{`3:20: key: "/a" has a slash at an end, or two in a row`}},
		"slashes":       {one("kv", "name: a//b"), []string{`3:12: key: "a//b" has a slash at an end, or two in a row`}},
		"dots":          {one("kv", "key: a/.."), []string{`3:20: key: "a/.." has a segment of dots`}},
		"control":       {one("kv", `key: "a\n"`), []string{`3:20: key: "a\n" has control characters`}},
		"long":          {one("kv", "name: "+strings.Repeat("k", maxKey+1)), []string{`3:12: key: "` + strings.Repeat("k", maxKey+1) + `" is longer than 512 bytes`}},
		"number":        {one("kv", "value: 5"), []string{"3:22: value: want text, not the number 5; quote it"}},
		"no number":     {one("kv", "value: a, skiplessthan: true"), []string{"3:22: value: want a whole number, since skiplessthan compares numbers; with skipcmpstyle: string it compares text"}},
		"style":         {one("kv", "skipcmpstyle: 2"), []string{"3:29: skipcmpstyle: want int (0) or string (1), not the number 2"}},
		"style no word": {one("kv", "skipcmpstyle: [a]"), []string{"3:29: skipcmpstyle: want text, not a list"}},
		"too large":     {one("kv", `value: "`+strings.Repeat("x", MaxShared+1)+`"`), []string{"3:22: value: 512 KiB; a value can have 512"}},
		"one key twice": {"resources:\n  kv:\n  - {name: a}\n  - {name: b, key: a}\n", []string{"4:20: kv[b]: the key a is already managed by kv[a]"}},
		"mapped twice":  {"resources:\n  kv:\n  - {name: a, mapped: true}\n  - {name: b, key: a, mapped: true}\n", []string{"4:20: kv[b]: the mapped key a is already managed by kv[a]"}},
	})
}

func TestProblemsOfMeta(t *testing.T) {
	meta := func(fields string) string { return one("noop", "meta: {"+fields+"}") }
	wantProblems(t, map[string]problemCase{
		"numbers":       {meta("retry: -2, noop: 1"), []string{"3:29: retry: -2 is not between -1 and 32767", "3:39: noop: want true or false, not the number 1"}},
		"limit":         {meta("limit: 0"), []string{"3:29: limit: want looks per second, from 1e-06 to 1e+06, or .inf for no limit, not the number 0"}},
		"limit of text": {meta("limit: fast"), []string{`3:29: limit: want looks per second, from 1e-06 to 1e+06, or .inf for no limit, not the text "fast"`}},
		"negative":      {meta("limit: -.inf"), []string{"3:29: limit: want looks per second, from 1e-06 to 1e+06, or .inf for no limit, not the number -.inf"}},
		"burst":         {meta("burst: 2"), []string{"3:29: burst: needs a limit"}},
		"burst of none": {meta("limit: .inf, burst: 2"), []string{"3:42: burst: needs a limit"}},
		"burst of zero": {meta("limit: 1, burst: 0"), []string{"3:39: burst: 0 is not between 1 and 1048576"}},
		"sema": {meta(`sema: ["a:0", ":1", "a:b", "", 5]`), []string{
			`3:29: sema: want "name" or "name:count" with a count from 1 to 1048576, not the text "a:0"`,
			`3:36: sema: want "name" or "name:count" with a count from 1 to 1048576, not the text ":1"`,
			`3:42: sema: want "name" or "name:count" with a count from 1 to 1048576, not the text "a:b"`,
			`3:49: sema: want "name" or "name:count" with a count from 1 to 1048576, not the text ""`,
			"3:53: sema: want text, not the number 5; quote it"}},
		"sema twice":  {meta(`sema: [a, "a:1"]`), []string{"3:32: sema: a is given twice"}},
		"sema counts": {"resources:\n  noop:\n  - {name: a, meta: {sema: [s]}}\n  - {name: b, meta: {sema: [\"s:2\"]}}\n", []string{"4:29: sema: s has the count 2 here and 1 in line 3"}},
		"autoedge":    {meta("autoedge: no"), []string{`3:32: autoedge: want true or false, not the text "no"`}},
	})
}

func TestCollectByName(t *testing.T) {
	def, err := Parse("f", []byte("collect:\n- {kind: file, pattern: /a, name: \"key-*\"}\n- {kind: file, pattern: /a, name: \"[ab]?\"}\n- {kind: file, pattern: /a}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]bool{"key-h1": {true, false, true}, "b1": {false, true, true}, "key-/x": {false, false, true}} {
		for i, c := range def.Collect {
			if c.Wants(KindFile, name) != want[i] || c.Wants(KindExec, name) {
				t.Errorf("%q wants %s: not %v", c.Name, name, want[i])
			}
		}
	}
}
