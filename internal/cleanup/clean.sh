# Finds and removes what dead runs left. The variables set before it (see script.go): marker prefix spare live cache dry.
# Everything happens inside a base that was entered and found to be ours, by paths relative to it.

say() {
	case $2 in
	*[![:print:]]*) printf 'failed=?\thas a name that is not usable\n' ;;
	*) printf '%s=%s\n' "$1" "$2" ;;
	esac
}

# problem PATH TEXT: what could not be done; the text of a tool may have any form.
problem() { printf 'failed=%s\t%s\n' "$1" "$(printf '%s' "$2" | tr -c '\040-\176' ' ')"; }

# member NAME: its number or string behind $line. Sets value.
member() {
	value=
	case $line in
	*"\"$1\":"*)
		value=${line#*"\"$1\":"}
		value=${value#\"}
		value=${value%%[!0-9a-zA-Z_:-]*}
		;;
	esac
}

# process: pid and start of the first process in $line.
process() {
	member pid
	pid=$value
	member start
	start=$value
	case $pid in
	*[!0-9]*) pid= ;;
	esac
}

# load DIR: what shim.json says. Process IDs of a boot that is over mean nothing.
load() {
	record= line=
	[ ! -f "$1/shim.json" ] || { read -r line <"$1/shim.json"; } 2>/dev/null
	member boot_id
	[ -z "$value" ] || [ "$value" = "$boot" ] || line=
	record=$line
}

# started PID: when it was, '' where it is gone.
started() {
	began=
	if [ -r /proc/self/stat ]; then
		stat=
		{ read -r stat <"/proc/$1/stat"; } 2>/dev/null
		set -- ${stat##*') '}
		case ${1-Z} in
		[ZXx]) ;;
		*) began=${20-} ;;
		esac
	else
		began=$(ps -o lstart= -p "$1" 2>/dev/null)
		set -- $began
		IFS=_
		began=$*
		IFS=$ifs
	fi
}

# alive: does the shim of $record live? Sets shim.
alive() {
	line=$record
	process
	shim=$pid
	[ -n "$shim" ] && [ "$shim" -gt 1 ] || return 1
	if [ -r /proc/self/stat ]; then
		started "$shim"
		[ -n "$began" ] && [ "$began" = "$start" ]
	else
		kill -0 "$shim" 2>/dev/null
	fi
}

# rest: the processes that the payload of $record left, in pids. As the shim does it: whoever is in the terminal session of the
# shim that started it, as long as that session's ID was not used again.
rest() {
	pids=
	[ -n "$record" ] || return 0
	case $record in
	*'"starter":{'*'"payload":{'*) ;;
	*) return 0 ;;
	esac
	if [ ! -r /proc/self/stat ]; then
		line=${record##*'"payload":{'}
		process
		[ -n "$pid" ] && [ "$pid" -gt 1 ] || return 0
		started "$pid"
		[ -z "$began" ] || [ "$began" != "$start" ] || pids=-$pid
		return 0
	fi
	line=${record##*'"starter":{'}
	process
	leader=$pid
	[ -n "$leader" ] && [ "$leader" -gt 1 ] || return 0
	started "$leader"
	[ -z "$began" ] || [ "$began" = "$start" ] || return 0
	set +f
	set -- /proc/[0-9]*/stat
	set -f
	for file in "$@"; do
		stat=
		{ read -r stat <"$file"; } 2>/dev/null
		of=${file#/proc/}
		of=${of%/stat}
		set -- ${stat##*') '}
		case ${1-Z} in
		[ZXx]) continue ;;
		esac
		[ "${4-}" != "$leader" ] || [ "$of" = $$ ] || pids="$pids $of"
	done
}

pause() { sleep 0.1 2>/dev/null || sleep 1; }

# end_rest PATH: ends them, and says so.
end_rest() {
	rest
	[ -n "$pids" ] || return 0
	say ended "$1 ${pids# }"
	[ "$dry" = false ] || return 0
	for signal in TERM KILL; do
		kill -$signal -- $pids 2>/dev/null || kill -$signal $pids 2>/dev/null
		tries=0
		while [ $tries -lt 30 ]; do
			rest
			[ -n "$pids" ] || return 0
			tries=$((tries + 1))
			pause
		done
	done
	problem "$base/$1" "processes ${pids# } do not end"
	return 1
}

# drop PATH FIRST: says how big it is and removes it, under another name first so that nobody meets the half of it.
drop() {
	size=$(du -sk "./$1" 2>/dev/null)
	set -- "$1" "$2" ${size%%[!0-9]*}
	if [ "$dry" = false ]; then
		if [ "$1" != "$2" ]; then
			said=$(rm -rf "./$2" 2>&1 && mv "./$1" "./$2" 2>&1) || {
				problem "$base/$1" "$said"
				return 1
			}
		fi
		said=$(rm -rf "./$2" 2>&1) || {
			problem "$base/$1" "$said"
			return 1
		}
	fi
	say removed "${3:-0} $base/$1"
}

# young PATH: was it made or changed a moment ago? So it is taken to be where find can't tell.
young() {
	recent=$(find "./$1" -prune -mmin -15 2>/dev/null) || return 0
	[ -n "$recent" ]
}

# session RUN NAME: one session directory.
session() {
	case " $spare " in
	*" $1 "*)
		say spared "$1 $2 driven $base/$1/$2"
		kept=true
		return
		;;
	esac
	load "$1/$2"
	if alive; then
		if [ "$live" = false ]; then
			say alive "$1 $2 $shim $base/$1/$2"
			kept=true
			return
		fi
		say stopped "$1 $2 $shim $base/$1/$2"
		if [ "$dry" = false ]; then
			kill -TERM "$shim" 2>/dev/null
			tries=0
			while alive && [ $tries -lt 200 ]; do
				tries=$((tries + 1))
				pause
			done
			if alive; then
				problem "$base/$1/$2" "the shim, process $shim, does not end"
				kept=true
				return
			fi
		fi
	elif [ ! -f "$1/$2/shim.json" ] && young "$1/$2"; then
		# Somebody may be about to start it.
		say spared "$1 $2 young $base/$1/$2"
		kept=true
		return
	fi
	end_rest "$1/$2" || {
		kept=true
		return
	}
	# An initiator may have come back meanwhile, and a new shim with it.
	load "$1/$2"
	if [ "$dry" = false ] && alive; then
		say alive "$1 $2 $shim $base/$1/$2"
		kept=true
		return
	fi
	drop "$1/$2" "$1/.gone-$2" || kept=true
}

# entered BASE: goes there. Sets reason where that is not to be; no reason and a failure: there is none.
entered() {
	reason=
	[ -e "$1" ] || [ -L "$1" ] || return 1
	set -- "$1" $(ls -ldn "${1%/*}/." 2>/dev/null)
	case ${4-} in
	0 | "$uid") ;;
	*) reason="is in a directory of uid ${4-?}, who could replace it" ;;
	esac
	case ${2-} in
	d????????[tT]*) ;;
	d????w* | d???????w*) reason='is in a directory that others can write to' ;;
	esac
	if [ -L "$1" ]; then
		reason='is a symbolic link'
	elif [ ! -d "$1" ]; then
		reason='is no directory'
	fi
	[ -z "$reason" ] || return 1
	cd "$1" 2>/dev/null || {
		reason='can not be entered'
		return 1
	}
	set -- $(ls -ldn . 2>/dev/null)
	if [ "${3-}" != "$uid" ]; then
		reason="belongs to uid ${3-?}"
	else
		case $1 in
		d???--[-S]---*) return 0 ;;
		esac
		reason="has mode $1, which others can enter"
	fi
	return 1
}

clean() {
	base=$1 kept=false
	entered "$base" || {
		[ -z "$reason" ] || problem "$base" "$reason"
		return 0
	}
	set +f
	set -- *
	set -f
	for run in "$@"; do
		case $run in
		cache | *[!a-z0-9]*) continue ;;
		esac
		[ ${#run} -le 32 ] && [ -d "$run" ] && [ ! -L "$run" ] || continue
		set +f
		set -- "$run"/* "$run"/.gone-*
		set -f
		for dir in "$@"; do
			name=${dir#"$run/"}
			[ -d "$dir" ] && [ ! -L "$dir" ] || continue
			case $name in
			.gone-*[!A-Za-z0-9._+-]*) ;;
			.gone-*) case " $spare " in *" $run "*) ;; *) drop "$dir" "$dir" ;; esac ;;
			[!A-Za-z0-9_]* | *[!A-Za-z0-9._+-]*) ;;
			*) session "$run" "$name" ;;
			esac
		done
		case " $spare " in
		*" $run "*) kept=true ;;
		*) [ "$dry" = true ] || rmdir "./$run" 2>/dev/null ;; # fails where something is left, which is no error
		esac
	done
	if [ "$cache" = true ] && [ -d cache ] && [ ! -L cache ]; then
		if [ "$kept" = true ]; then say cache_kept "$base/cache"; else drop cache cache; fi
	fi
	[ "$dry" = true ] || {
		rmdir ./cache 2>/dev/null
		cd / && rmdir "$base" 2>/dev/null
	}
	cd /
}

# halves BASE: bases that were begun and got no name (see internal/transfer). They are empty, and rmdir takes nothing else.
halves() {
	cd "${1%/*}/" 2>/dev/null || return 0
	name=${1##*/}
	set +f
	set -- "$name".*
	set -f
	for half in "$@"; do
		run=${half#"$name".}
		run=${run%%.*}
		case $half in *[!A-Za-z0-9._-]*) continue ;; esac
		[ -d "./$half" ] && [ ! -L "./$half" ] && [ -O "./$half" ] || continue
		case " $spare " in *" $run "*) continue ;; esac
		young "$half" || {
			if [ "$dry" = true ]; then [ -z "$(ls -A "./$half")" ]; else rmdir "./$half" 2>/dev/null; fi && say removed "0 ${base%/*}/$half"
		}
	done
	cd /
}

main() {
	umask 077
	LC_ALL=C
	export LC_ALL
	PATH=${PATH:-/usr/bin:/bin}:/usr/bin:/bin:/usr/sbin:/sbin
	ifs=$IFS
	set -f
	printf '\n%s BEGIN\n' "$marker"
	uid=$(id -u)
	boot=
	if [ -r /proc/sys/kernel/random/boot_id ]; then read -r boot </proc/sys/kernel/random/boot_id; fi
	home=
	case ${HOME-} in
	/*[!A-Za-z0-9/._+,@%=-]*) ;;
	/*) home=${HOME%/}/.cache ;;
	esac
	seen=' '
	for dir in $prefix /var/tmp $home /tmp; do
		dir=${dir%/}/mgmt-remote-$uid
		case $seen in
		*" $dir "*) continue ;;
		esac
		seen="$seen$dir "
		clean "$dir"
		halves "$dir"
	done
	printf '%s END\n' "$marker"
}

main </dev/null
