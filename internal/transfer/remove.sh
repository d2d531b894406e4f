# Step 8 where no shim is there to do it. Variables set before: base run name (the last part of the session directory) begun (what the
# base is called until it is known to be ours). The call of main follows this text. Answers with one line: "ok", "live PID" or "fail TEXT".

alive() {
	line=
	{ read -r line <"$1/shim.json"; } 2>/dev/null
	case $line in
	*'"pid":'*) ;;
	*) return 1 ;;
	esac
	pid=${line#*'"pid":'}
	pid=${pid%%[!0-9]*}
	start=${line#*'"start":"'}
	start=${start%%'"'*}
	[ -n "$pid" ] || return 1
	if [ ! -r /proc/self/stat ]; then
		kill -0 "$pid" 2>/dev/null
		return
	fi
	stat=
	{ read -r stat <"/proc/$pid/stat"; } 2>/dev/null
	set -- ${stat##*') '}
	case ${1-Z} in
	[ZXx]) return 1 ;;
	esac
	[ "${20-}" = "$start" ]
}

# Inside a base that is no link, nobody else's and 0700 nobody can exchange a directory meanwhile; rm follows no links.
remove() {
	rmdir "$begun" 2>/dev/null # takes nothing that is not empty
	[ -e "$base" ] || [ -L "$base" ] || return 0
	if [ -L "$base" ] || [ ! -d "$base" ] || [ ! -O "$base" ] || [ -L "$base/$run" ] || [ -L "$base/$run/$name" ]; then
		echo "$base is not what this program made"
		return 1
	fi
	rm -rf "$base/$run/$name" || return 1
	# These fail where something is left, which is no error.
	rmdir "$base/$run" 2>/dev/null
	rmdir "$base/cache" 2>/dev/null
	rmdir "$base" 2>/dev/null
	return 0
}

main() {
	LC_ALL=C
	export LC_ALL
	set -f
	if alive "$base/$run/$name"; then
		echo "live $pid"
	elif said=$(remove 2>&1); then
		echo ok
	else
		echo fail "$said" | tr '\n' ' '
		echo
	fi
}
