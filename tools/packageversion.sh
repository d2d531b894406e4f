#!/bin/sh
# packageversion.sh VERSION SECONDS: what `git describe` said as packages sort it. What comes before a release is lower than it (~), what
# comes after is higher; without any tag it is lower than any release will be, and later commits, of SECONDS since 1970, are higher.
set -eu
case $1 in
v[0-9]*-rc* | v[0-9]*-alpha* | v[0-9]*-beta*) version=$(echo "${1#v}" | sed 's/-/~/') ;;
v[0-9]*) version=${1#v} ;;
*) version=0.0.0+$(date -u -d "@$2" +%Y%m%d%H%M).$1 ;;
esac
echo "$version" | tr - . # packages take no hyphen
