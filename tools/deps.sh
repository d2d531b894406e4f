#!/bin/sh
# Installs what the tests use besides Go: real SSH servers, sudo and doas, shells that login shells may be, etcdctl, ip,
# ClusterShell's nodeset, tmux.
# Does nothing when all of it is there. OpenRC is only downloaded: its test installs it in a root that is thrown away.
set -eu
PATH=$PATH:/usr/sbin:/sbin

missing=
need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need sshd openssh-server
need ssh openssh-client
need ssh-keygen openssh-client
need dropbear dropbear-bin
need dropbearkey dropbear-bin
need busybox busybox-static
need bash bash
need dash dash
need fish fish
need tcsh tcsh
need zsh zsh
need etcdctl etcd-client
need strace strace
need dbus-daemon dbus
need nsenter util-linux
need ip iproute2
need nft nftables
need tmux tmux
need ping iputils-ping
need ps procps
need gzip gzip
need sudo sudo
need doas opendoas
need git git
need nodeset clustershell
need useradd passwd
need dpkg-scanpackages dpkg-dev
need dnf dnf
need rpmbuild rpm
need createrepo_c createrepo-c
need man man-db
need mandoc mandoc
need qemu-aarch64-static qemu-user-static
need readelf binutils
need gcc gcc # the race detector needs cgo
[ -e /usr/share/bash-completion/bash_completion ] || missing="$missing bash-completion"
[ -e /lib/systemd/systemd ] || missing="$missing systemd"
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
[ -e /usr/lib/openssh/sftp-server ] || missing="$missing openssh-sftp-server"

kept=/var/cache/mgmt-remote-tests
wanted=
[ -n "$(find $kept -name 'openrc_*.deb' 2>/dev/null)" ] || wanted=openrc

[ -n "$missing$wanted" ] || exit 0
echo "missing packages:$missing${wanted:+, and in $kept $wanted}"
if ! command -v apt-get >/dev/null 2>&1; then
	echo "this is no Debian: install them (or what they are called here) by hand" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "not root: run \`sudo make deps\`, or \`apt-get install$missing\` as root" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || apt-get install -q -y --no-install-recommends $missing
if [ -n "$wanted" ]; then
	mkdir -p $kept/partial
	apt-get install -q -y --no-install-recommends --download-only -o Dir::Cache::archives=$kept $wanted
fi
