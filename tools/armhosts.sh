#!/bin/sh
# armhosts.sh PROGRAM: does this mgmt-remote for amd64 serve hosts with arm64 processors? Its demo runs on hosts that say they are such, and
# whose kernel runs programs for arm64, under qemu's emulator, and none that came for amd64 in their place. It needs root
# and Linux 6.7, where a namespace can have such a rule of its own: nothing outside of it changes.
set -eu
if [ "${2-}" != inside ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	cp /usr/bin/uname "$dir/real"
	printf '#!/bin/sh\n%s "$@" | sed s/x86_64/aarch64/g\n' "$dir/real" >"$dir/uname"
	chmod 755 "$dir/uname"
	inside() { ARM_DIR=$dir ARM_RUNS=$1 unshare --user --map-root-user --mount "$0" "$program" inside >"$dir/said" 2>&1; }
	program=$1
	inside yes || { cat "$dir/said" && exit 1; }
	if inside no; then # without the emulator the programs must be ones that can't run here
		cat "$dir/said"
		echo "armhosts: programs for this machine were sent" >&2
		exit 1
	fi
	exit
fi
mount --bind "$ARM_DIR/uname" /usr/bin/uname
if [ "$ARM_RUNS" = yes ]; then
	mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
	magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
	mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
	printf %s ":aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" >/proc/sys/fs/binfmt_misc/register
fi
exec "$1" demo --hosts 2
