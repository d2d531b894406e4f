//go:build linux

package e2e

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// etcdctlPayload runs on two hosts that first exchange data, then try what they may do and what not. It says a line for each try.
const etcdctlPayload = `#!/bin/sh
me=$1 other=$2 run=$3 cd=$4
top=/mgmt-remote/$run
kv=$top/kv
export ETCDCTL_API=3
export ETCDCTL_COMMAND_TIMEOUT=60s # the machine may be busy
cd "$cd" || exit 1

try() {
	name=$1; shift
	if out=$("$@" 2>&1); then echo "$name: allowed"
	else case $out in
		*PermissionDenied*) echo "$name: refused" ;;
		*) echo "$name: failed: $out" ;;
	esac; fi
}

# Waits until a key is there, from the beginning of time on, and says its value.
await() {
	mkfifo "await"
	etcdctl watch --rev=1 "$1" > await & watcher=$!
	{ read -r kind; read -r _; read -r value; } < await
	kill "$watcher"; wait "$watcher" 2>/dev/null
	rm await
	[ "$kind" = PUT ] && echo "$value"
}

# The two meet: neither goes on before the other was here.
lease=$(etcdctl lease grant 600 | { read -r _ id _; echo "$id"; })
etcdctl put "$kv/from-$me" "$lease" > /dev/null
theirs=$(await "$kv/from-$other")
[ -n "$theirs" ] && [ "$theirs" != "$lease" ] && echo "met: allowed"

try "put own quiet" etcdctl put "$top/quiet/$me" x
try "put other's quiet" etcdctl put "$top/quiet/$other" x
try "put own export" etcdctl put "$top/exports/$me/file/motd" hello
try "put other's export" etcdctl put "$top/exports/$other/file/motd" evil
try "put own state" etcdctl put "$top/hosts/$me/state" Done
try "get own state" etcdctl get "$top/hosts/$me/state"
try "put kv" etcdctl put "$kv/$me/x" 1
try "get kv" etcdctl get "$kv/$other/x"
try "del own kv" etcdctl del --prefix "$kv/$me/"
try "put outside" etcdctl put /elsewhere x
try "put other run" etcdctl put /mgmt-remote/aaaaaaaa/kv/x x
try "put root" etcdctl put "$top" x

try "get the run" etcdctl get --prefix "$top/"
try "get all runs" etcdctl get --prefix /mgmt-remote/
try "get everything" etcdctl get --prefix ""
try "get from here on" etcdctl get --from-key "$top/"
try "get outside" etcdctl get /elsewhere
try "get mgmt's" etcdctl get --prefix /_mgmt/
try "get to the end" etcdctl get "$top/" /mgmt-remotf
try "del own exports" etcdctl del --prefix "$top/exports/$me/"
try "del other's exports" etcdctl del --prefix "$top/exports/$other/"
try "del all exports" etcdctl del --prefix "$top/exports/"
try "del everything" etcdctl del --prefix ""

txn() { name=$1; printf '%s' "$2" > txn; shift; try "$name" sh -c 'exec etcdctl txn < txn'; }
txn "txn kv" "mod(\"$kv/t-$me\") > \"0\"

put $kv/t-$me 1

put $kv/t-$me 2
del $top/exports/$me/a

"
txn "txn compares outside" "mod(\"/elsewhere\") = \"0\"

put $kv/t-$me 1


"
txn "txn writes other's in the branch not taken" "mod(\"$kv/never\") > \"0\"

put $top/quiet/$other x

put $kv/t-$me 3

"
txn "txn reads outside" "mod(\"$kv/never\") = \"0\"

get /elsewhere


"

try "own lease: put" etcdctl put --lease="$lease" "$top/quiet/$me" x
try "own lease: keep alive" etcdctl lease keep-alive --once "$lease"
try "own lease: time to live" etcdctl lease timetolive --keys "$lease"
try "other's lease: put" etcdctl put --lease="$theirs" "$kv/mine" x
try "other's lease: keep alive" etcdctl lease keep-alive --once "$theirs"
try "other's lease: time to live" etcdctl lease timetolive --keys "$theirs"
try "other's lease: revoke" etcdctl lease revoke "$theirs"
try "list leases" etcdctl lease list
etcdctl put "$kv/tried-$me" y > /dev/null
[ "$(await "$kv/tried-$other")" = y ] && echo "still there: allowed"
try "own lease: revoke" etcdctl lease revoke "$lease"

# etcdctl says itself that a watch was refused, and why.
watch() { name=$1; shift; out=$(etcdctl watch "$@" 2>&1); case $out in
	*"host $me"*"may not read"*) echo "$name: refused" ;; *) echo "$name: failed: $out" ;; esac; }
watch "watch outside" /elsewhere
watch "watch everything" --prefix ""
watch "watch all runs" --prefix /mgmt-remote/

try "members" etcdctl member list
try "add a member" etcdctl member add evil --peer-urls=http://127.0.0.1:1
try "users" etcdctl user list
try "enable auth" etcdctl auth enable
try "compact" etcdctl compact 1
try "alarms" etcdctl alarm list
try "snapshot" etcdctl snapshot save here
exit 7
`

// allowedByGateway is everything that the payload is allowed; it is refused the rest.
var allowedByGateway = []string{
	"met", "still there",
	"put own quiet", "put own export", "get own state", "put kv", "get kv", "del own kv", "get the run", "del own exports",
	"txn kv", "own lease: put", "own lease: keep alive", "own lease: time to live", "own lease: revoke",
}

// TestEtcdctl has two hosts talk to the etcd, and through it to each other, over both kinds of tunnel.
func TestEtcdctl(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Fatalf("this test needs etcdctl; `make deps` installs it (Debian: etcd-client): %v", err)
	}
	tried := map[string]string{}
	for line := range strings.Lines(etcdctlPayload) {
		for _, word := range []string{"try ", "txn ", "watch "} {
			if rest, ok := strings.CutPrefix(line, word+`"`); ok {
				name, _, _ := strings.Cut(rest, `"`)
				tried[name] = "refused"
			}
		}
	}
	for _, name := range allowedByGateway {
		tried[name] = "allowed"
	}
	for _, kind := range []struct {
		name, detail string
		options      []sshd.Options
	}{
		{"socket forward", "forward", []sshd.Options{{OwnVarTmp: true}, {OwnVarTmp: true}}},
		{"stdio", "stdio", []sshd.Options{noForward, noForward}},
		{"mixed, tcp endpoint", "", []sshd.Options{{OwnVarTmp: true}, noForward}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			for _, o := range kind.options {
				l.add(sshd.Start(t, o))
			}
			args := l.args("--json", "--binary", l.file("tries", etcdctlPayload, 0o700))
			if kind.detail == "" {
				args = append(args, "--endpoint", "tcp")
			}
			args = append(args, "--", "tries", "{{.Host}}", `{{if eq .Host "h1"}}h2{{else}}h1{{end}}`, "{{.Run}}", "{{.Dir}}")
			p := l.run(args...)
			for _, h := range l.hosts {
				checkTries(t, h.name, p.output(h.name, false), tried)
				if got := p.output(h.name, true); got != "" {
					t.Errorf("%s: stderr: %s", h.name, got)
				}
				e := p.await("tunnel", func(e event) bool { return e.Type == "step_done" && e.Host == h.name && e.Step == "tunnel" })
				if kind.detail != "" && !strings.Contains(e.Detail, kind.detail) {
					t.Errorf("%s: tunnel is %q, want %q", h.name, e.Detail, kind.detail)
				}
				h.checkCacheOnly(t, p.runID())
			}
			p.wantCode(2)
			for _, h := range l.hosts {
				if r := p.wantOutcome(h.name, "payload failed"); r.Exit == nil || r.Exit.Code != 7 {
					t.Errorf("%s: exit %+v, want 7", h.name, r.Exit)
				}
			}
		})
	}
}

var noForward = sshd.Options{OwnVarTmp: true, Config: []string{"AllowStreamLocalForwarding no"}}

func checkTries(t *testing.T, host, output string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(output) {
		name, result, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if i := strings.LastIndex(line, ": allowed"); i > 0 {
			name, result = line[:i], "allowed"
		} else if i := strings.LastIndex(line, ": refused"); i > 0 {
			name, result = line[:i], "refused"
		}
		got[name] = result
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s: %q, want %q", host, name, got[name], want[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("%s: more was said: %q", host, got)
	}
}
