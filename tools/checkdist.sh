#!/bin/sh
# checkdist.sh: are the archives and packages in dist/ what people can install and run? As root, with Debian's tools, on Linux 6.7.
set -eu
cd "$(dirname "$0")/../dist"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
die() {
	echo "checkdist: $*" >&2
	exit 1
}
arch=$(dpkg --print-architecture)

sha256sum --quiet -c SHA256SUMS
[ "$(wc -l <SHA256SUMS)" = 11 ] || die "5 archives and 6 packages are wanted, there are: $(ls)"

# Archives: all parts, and programs that need nothing of the machine.
for archive in *.tar.gz; do
	tar -C "$dir" -xzf "$archive"
	tree=$dir/${archive%.tar.gz}
	for file in mgmt-remote README.md LICENSE CHANGELOG.md man/mgmt-remote-run.1.gz completions/mgmt-remote.bash completions/mgmt-remote.fish completions/_mgmt-remote; do
		[ -s "$tree/$file" ] || die "$archive lacks $file"
	done
	go version -m "$tree/mgmt-remote" | grep -q 'CGO_ENABLED=0' || die "$archive: built with cgo"
	case $archive in
	*linux*) if readelf -ld "$tree/mgmt-remote" 2>/dev/null | grep -E 'INTERP|NEEDED'; then die "$archive: not static"; fi ;;
	esac
done
# What the program says of itself, under an emulator where it is for another machine.
for platform in linux-amd64: linux-arm64:qemu-aarch64-static linux-armv7:qemu-arm-static; do
	runner=${platform#*:}
	[ "${platform%:*}" != "linux-$arch" ] || runner=
	said=$($runner "$dir"/mgmt-remote-*-"${platform%:*}"/mgmt-remote version -v)
	for program in 'shim linux/arm64' 'shim darwin/arm64' 'shim freebsd/amd64' 'engine linux/amd64' 'engine linux/arm64' 'engine linux/arm'; do
		echo "$said" | tr -s ' ' | grep -q "^$program sha256" || die "$platform has no $program inside: $said"
	done
done

# What it says is inside must be that, and be sent: hosts with another processor run it.
[ "$arch" != amd64 ] || ../tools/armhosts.sh "$(echo "$dir"/mgmt-remote-*-linux-amd64/mgmt-remote)"

# Packages: install, run in a root with nothing else, read the manual, remove.
root=$dir/root
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
touch "$root/var/lib/dpkg/status"
install() { dpkg --root="$root" --force-script-chrootless --log=/dev/null "$@" >/dev/null; }
install --install ./*_"$arch".deb
chroot "$root" /usr/bin/mgmt-remote version
chroot "$root" /usr/bin/mgmt-remote config >/dev/null
MANPAGER=cat man --warnings -l "$root/usr/share/man/man1/mgmt-remote-run.1.gz" 2>&1 | grep -q -e --retry-for || die "no manual page"
for file in bash-completion/completions/mgmt-remote zsh/vendor-completions/_mgmt-remote fish/vendor_completions.d/mgmt-remote.fish doc/mgmt-remote/copyright; do
	[ -s "$root/usr/share/$file" ] || die "the .deb lacks $file"
done
install --purge mgmt-remote
left=$(find "$root" -path "$root/var" -prune -o -type f -print)
[ -z "$left" ] || die "left after the package was removed: $left"
for package in *.deb; do dpkg-deb --info "$package" >/dev/null; done

for package in *.rpm; do
	rpm -K --nosignature "$package" >/dev/null || die "$package is damaged"
	files=$(rpm -qlp "$package")
	for file in /usr/bin/mgmt-remote /usr/share/man/man1/mgmt-remote-run.1.gz /usr/share/zsh/site-functions/_mgmt-remote /usr/share/bash-completion/completions/mgmt-remote; do
		echo "$files" | grep -qx "$file" || die "$package lacks $file"
	done
	[ -z "$(rpm -qp --requires "$package" | grep -v '^rpmlib')" ] || die "$package needs other packages"
done
mkdir "$dir/rpm"
rpm --root="$dir/rpm" --nodeps -i ./*."$(uname -m)".rpm 2>"$dir/said" || die "$(cat "$dir/said")" # on Debian it always says something
chroot "$dir/rpm" /usr/bin/mgmt-remote version >/dev/null
echo "checkdist: all good"
