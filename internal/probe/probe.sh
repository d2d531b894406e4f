# The probe. POSIX sh with builtins wherever there is one: every fork is paid for by each host of a fleet, and they may all be
# one machine. Comments and indentation are removed before it is sent. The variables set before it (see script.go):
# marker prefix dirs bases run host short full max
#
# Everything is in functions: the shell has read the whole script before the first command runs, so that no command can take the
# rest of the script for its input.

# say KEY VALUE: one line of the answer; a value that is no plain text is left out.
say() {
	case $2 in
	*[![:print:]]*) printf '%s=\n' "$1" ;;
	*) printf '%s=%s\n' "$1" "$2" ;;
	esac
}

reject() {
	case $1$2 in
	*[![:print:]]*) printf 'rejected=?\tis not usable\n' ;;
	*) printf 'rejected=%s\t%s\n' "$1" "$2" ;;
	esac
}

# lookup PATH: mode and owner from the one ls, empty if PATH is not there.
lookup() {
	mode= owner=
	IFS=$nl
	for l in $listing; do
		case $l in
		*" $1" | *" $1 -> "*)
			IFS=' '
			set -- $l
			mode=$1 owner=$3
			break
			;;
		esac
	done
	IFS=$ifs
}

# ours BASE: sets mode ('' = there is no BASE) and reason ('' = it is ours).
ours() {
	reason=
	lookup "$1"
	case $mode in
	'') ;;
	l*) reason="has $1, which is a symbolic link" ;;
	d*)
		if [ "$owner" != "$uid" ]; then
			reason="has $1, which belongs to uid $owner"
		else
			case $mode in
			d???--[-S]---*) ;;
			*) reason="has $1 with mode $mode, which others can enter" ;;
			esac
		fi
		;;
	*) reason="has $1, which is no directory" ;;
	esac
}

# try DIR: is it usable? Sets base, exists, reason.
try() {
	reason= exists=false
	base=${1%/}/mgmt-remote-$uid
	if [ ${#base} -gt "$max" ]; then
		reason='is too long: paths of sockets below it would not fit'
		return 1
	fi
	if [ ! -d "$1" ]; then
		if [ -e "$1" ]; then reason='is no directory'; else reason='does not exist'; fi
		return 1
	fi
	lookup "${1%/}/."
	case $owner in
	0 | "$uid") ;;
	'')
		reason='can not be entered'
		return 1
		;;
	*)
		reason="belongs to uid $owner, who could replace what is in it"
		return 1
		;;
	esac
	case $mode in
	d????????[tT]*) ;;
	d????w* | d???????w*)
		reason='can be written by others and has no sticky bit'
		return 1
		;;
	esac
	ours "$base"
	[ -z "$reason" ] || return 1
	file=${1%/}/.mgmt-remote-$marker
	if [ -n "$mode" ]; then
		exists=true
		file=$base/.probe-$marker
	fi
	# The interpreter of the file is rm: running it also removes it.
	interpreter='/bin/rm -f'
	[ -x /bin/rm ] || interpreter=/bin/sh
	trap 'rm -f "$file"; exit 1' HUP INT TERM PIPE
	if { printf '#!%s\n' "$interpreter" >"$file"; } 2>/dev/null; then
		chmod 700 "$file" && "$file" >/dev/null 2>&1 || reason='can not execute files (is it mounted noexec?)'
	else
		reason=$({ printf '#!%s\n' "$interpreter" >|"$file"; } 2>&1)
		reason="can not be written: ${reason##*: }"
	fi
	[ ! -f "$file" ] || rm -f "$file"
	trap - HUP INT TERM PIPE
	[ -z "$reason" ]
}

# member NAME: its number or string in the one line of JSON that the shim wrote. Sets value.
member() {
	value=
	case $line in
	*"\"$1\":"*)
		value=${line#*"\"$1\":"}
		value=${value# }
		value=${value#\"}
		value=${value%%[!0-9a-fA-F-]*}
		;;
	esac
}

# alive: is the process of $line there? Process IDs are used again, so the time it started (field 22 of stat) has to be the same.
alive() {
	member boot_id
	[ -z "$value" ] || [ "$value" = "$boot" ] || return 1
	member start
	start=$value
	member pid
	[ -n "$value" ] || return 1
	if [ -r /proc/self/stat ]; then
		stat=
		{ read -r stat <"/proc/$value/stat"; } 2>/dev/null
		set -- ${stat##*') '}
		case ${1-Z} in
		[ZXx]) return 1 ;;
		esac
		[ "${20-}" = "$start" ]
	else
		kill -0 "$value" 2>/dev/null
	fi
}

# look BASE: is there a session of this run and host?
look() {
	if [ ${#1} -le "$full" ]; then dir=$1/$run/$host; else dir=$1/$run/$short; fi
	[ -d "$dir" ] && [ ! -L "$dir" ] && [ ! -L "$1/$run" ] || return 0
	state=prepared
	if [ -f "$dir/shim.json" ]; then
		state=started line=
		{ read -r line <"$dir/shim.json"; } 2>/dev/null
		if alive; then state=live; fi
	elif [ ! -d "$dir" ]; then
		return 0 # the shim has cleaned up between our two looks: this is no session that was never begun
	fi
	say session "$state $1 $dir"
}

# cached: the finished files in the cache of $base; temporary ones start with a dot.
cached() {
	set +f
	for file in "$base"/cache/*/*; do
		[ -f "$file" ] && [ -x "$file" ] || continue
		file=${file#"$base/cache/"}
		case $file in
		*[!A-Za-z0-9/._+-]*) continue ;;
		esac
		hash=${file%/*}
		case $hash in
		*[!0-9a-f]*) continue ;;
		esac
		[ ${#hash} -ne 64 ] || say cached "$file"
	done
	set -f
}

free() {
	set -f
	IFS=$nl
	set -- $(df -P -k "$1" 2>/dev/null)
	IFS=$ifs
	[ $# -eq 2 ] || return 0
	set -- ${2%%%*}
	[ $# -ge 5 ] || return 0
	shift $(($# - 2))
	case $1 in
	'' | *[!0-9]*) ;; # BSD counts below zero when the reserve is in use
	*) say free_kib "$1" ;;
	esac
}

tools() {
	if command -v gzip >/dev/null 2>&1; then say gzip true; fi
	for tool in sha256sum shasum sha256 openssl; do
		if command -v $tool >/dev/null 2>&1; then
			say sha256 $tool
			break
		fi
	done
}

who() {
	uid=
	if [ -r /proc/self/status ]; then
		while read -r key real effective rest; do
			case $key in Uid:)
				uid=$effective
				break
				;;
			esac
		done </proc/self/status
	fi
	[ -n "$uid" ] || uid=$(id -u)
	user=${USER:-${LOGNAME:-}}
	[ -n "$user" ] || user=$(id -un)
	say uid "$uid"
	say user "$user"
	say home "${HOME-}"
	say shell "${SHELL-}"
}

system() {
	set -- $(uname -s -r -m)
	say os "$1"
	say kernel "$2"
	say arch "$3"
	boot=
	if [ -r /proc/sys/kernel/random/boot_id ]; then
		read -r boot </proc/sys/kernel/random/boot_id
	else
		# "{ sec = 1700000000, usec = 0 } …" on BSD and macOS
		boot=$(sysctl -n kern.boottime 2>/dev/null)
		boot=${boot#*sec = }
		boot=${boot%%,*}
	fi
	say boot_id "$boot"
}

main() {
	umask 077
	LC_ALL=C
	export LC_ALL
	PATH=${PATH:-/usr/bin:/bin}:/usr/bin:/bin:/usr/sbin:/sbin
	nl='
'
	ifs=$IFS
	set -f -C
	printf '\n%s BEGIN\n' "$marker"
	system
	who
	tools

	candidates=$dirs
	case $candidates in
	*'~'*)
		case ${HOME-} in
		/*[!A-Za-z0-9/._+,@%=-]* | *[!A-Za-z0-9/._+,@%=-]*)
			candidates="${candidates%%'~'*}${candidates#*'~'}"
			[ -n "$prefix" ] || reject "$HOME/.cache" 'has characters that are not safe everywhere'
			;;
		/*) candidates="${candidates%%'~'*}${HOME%/}/.cache${candidates#*'~'}" ;;
		*) candidates="${candidates%%'~'*}${candidates#*'~'}" ;;
		esac
		;;
	esac
	all=" $bases "
	set --
	for dir in $candidates; do
		set -- "$@" "${dir%/}/." "${dir%/}/mgmt-remote-$uid"
		case $all in
		*" ${dir%/}/mgmt-remote-$uid "*) ;;
		*) all="$all${dir%/}/mgmt-remote-$uid " ;;
		esac
	done
	listing=$(ls -ldn "$@" $bases 2>/dev/null)

	for base in $all; do
		ours "$base"
		if [ -n "$mode" ] && [ -z "$reason" ]; then look "$base"; fi
	done

	chosen=
	for dir in ${prefix:-$candidates}; do
		if try "$dir"; then
			chosen=$dir
			break
		fi
		reject "$dir" "$reason"
	done
	if [ -n "$chosen" ]; then
		say base "$base"
		say base_exists $exists
		cached
		free "$chosen"
	fi
	printf '%s END\n' "$marker"
}

main </dev/null
