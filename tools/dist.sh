#!/bin/sh
# dist.sh VERSION LDFLAGS: makes in dist/ what is published: for each platform an archive, for Linux packages too, and the
# checksums of all. The programs for hosts are in internal/shimbin/bin already. The same commit gives the same bytes:
# names are sorted, times are the commit's, and nothing of this machine is in the programs.
set -eu
version=$1 ldflags=$2
export LC_ALL=C
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
version=$(tools/packageversion.sh "$version" "$SOURCE_DATE_EPOCH")

rm -rf dist
mkdir -p dist
umask 022

common=dist/common # what is the same for all platforms
mkdir -p $common/man $common/completions
bin/mgmt-remote man --dir $common/man
gzip -n -9 $common/man/*.1
bin/mgmt-remote completion bash >$common/completions/mgmt-remote.bash
bin/mgmt-remote completion fish >$common/completions/mgmt-remote.fish
bin/mgmt-remote completion zsh >$common/completions/_mgmt-remote
cp README.md LICENSE CHANGELOG.md $common

package() { # package FORMAT ARCH
	NFPM_VERSION=$version NFPM_ARCH=$2 \
		go tool -modfile=tools/nfpm/go.mod nfpm package --config tools/nfpm/nfpm.yaml --packager "$1" --target dist/
}

for platform in linux-amd64 linux-arm64 linux-armv7 darwin-amd64 darwin-arm64; do
	echo "dist $platform"
	os=${platform%-*} arch=${platform#*-}
	tree=dist/mgmt-remote-$version-$platform
	cp -R $common "$tree"
	CGO_ENABLED=0 GOOS=$os GOARCH=${arch%v7} GOARM=7 \
		go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$tree/mgmt-remote" ./cmd/mgmt-remote
	tar -C dist --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "${tree#dist/}" | gzip -n -9 >"$tree.tar.gz"
	if [ "$os" = linux ]; then
		case $arch in armv7) arch=arm7 ;; esac
		ln -s "${tree#dist/}" dist/tree # what nfpm.yaml calls it
		package deb "$arch"
		package rpm "$arch"
		rm dist/tree
	fi
	rm -rf "$tree"
done
rm -rf $common
(cd dist && sha256sum -- * >SHA256SUMS)
ls -l dist
