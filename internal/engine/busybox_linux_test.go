package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// standIns are what BusyBox's tools do, as far as we use them, by means of shadow's. They take no other options. Debian's
// BusyBox comes without the real ones. To see whether it is so, run the test with the real ones: build BusyBox 1.35 or
// later with adduser, addgroup, deluser and delgroup, put it outside /tmp, and name it in MGMT_REMOTE_TEST_BUSYBOX.
var standIns = map[string]string{
	"adduser": `
args=
while getopts DHu:G:h:s: opt; do
	case $opt in
	D) ;;
	H) args="$args -M" ;;
	u) ! cut -d: -f3 /etc/passwd | grep -qx "$OPTARG" || { echo "adduser: uid '$OPTARG' in use" >&2; exit 1; }
		args="$args -u $OPTARG" ;;
	G) args="$args -g $OPTARG -G $OPTARG" ;;
	h) args="$args -d $OPTARG" ;;
	s) args="$args -s $OPTARG" ;;
	*) exit 1 ;;
	esac
done
shift $((OPTIND - 1))
[ $# = 1 ] && exec /shadow/useradd $args "$1"`,
	"addgroup": `
case $# in
1) exec /shadow/groupadd "$1" ;;
2) exec /shadow/usermod -a -G "$2" "$1" ;;
3) [ "$1" = -g ] && exec /shadow/groupadd -g "$2" "$3" ;;
esac`,
	"deluser": `[ $# = 1 ] && exec /shadow/userdel "$1"`,
	"delgroup": `
case $# in
1) exec /shadow/groupdel "$1" ;;
2) exec /shadow/gpasswd -d "$1" "$2" ;;
esac`,
}

// withBusybox replaces shadow's tools in a fresh root.
func withBusybox(t *testing.T) {
	t.Helper()
	sh(t, `mkdir /shadow
for tool in useradd usermod userdel groupadd groupmod groupdel gpasswd; do
	mv "$(PATH=/usr/sbin:/usr/bin command -v $tool)" /shadow/
done
rm -f /usr/sbin/adduser /usr/sbin/addgroup /usr/sbin/deluser /usr/sbin/delgroup`)
	for name, script := range standIns {
		path := filepath.Join("/usr/sbin", name)
		var err error
		if busybox := os.Getenv("MGMT_REMOTE_TEST_BUSYBOX"); busybox != "" {
			err = os.Symlink(busybox, path)
		} else {
			err = os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAccountsByBusybox(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		withBusybox(t)
		converge(t, groupOf(t, "crew", graph.Group{GID: ptr(uint32(4242))}), "create group crew")
		converge(t, groupOf(t, "deck", graph.Group{}), "create group deck")
		full := graph.User{UID: ptr(uint32(4711)), GID: ptr(uint32(4242)), Groups: []string{"deck", "audio"}, HomeDir: "/srv/bob", Shell: "/bin/sh"}
		converge(t, userOf(t, "bob", full), "create user bob")
		if read(t, "/srv/bob") != "-" {
			t.Error("there is a home directory")
		}
		converge(t, userOf(t, "bob", graph.User{Groups: []string{"crew", "deck"}}), "groups audio,deck → crew,deck")
		converge(t, userOf(t, "bob", graph.User{Groups: []string{}}), "groups crew,deck → none")
		refuse(t, userOf(t, "bob", graph.User{Shell: "/bin/false"}), "install the package shadow for usermod")
		refuse(t, userOf(t, "eve", graph.User{UID: ptr(uint32(4711)), AllowDuplicateUID: true}), "gives no uid twice")
		refuse(t, groupOf(t, "deck", graph.Group{GID: ptr(uint32(5000))}), "install the package shadow for groupmod")
		converge(t, userOf(t, "eve", graph.User{}), "create user eve")
		converge(t, userOf(t, "deck", graph.User{}), "create user deck") // there is a group of that name
		for _, name := range []string{"eve", "deck", "bob"} {
			converge(t, userOf(t, name, graph.User{State: graph.Absent}), "remove user "+name)
		}
		converge(t, groupOf(t, "crew", graph.Group{State: graph.Absent}), "remove group crew")
		sh(t, "rm /usr/sbin/adduser")
		if _, err := userOf(t, "bob", full).check(t.Context()); err == nil {
			t.Error("no error without any tools")
		}
	})
}
