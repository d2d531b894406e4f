# Step 2 where there is no SFTP. Variables set before: base run name (the last part of the session directory). The call of main follows
# this text. Answers with one line: "ok" or "fail TEXT".

# ours DIR: says why it is not, if so.
ours() {
	if [ -L "$1" ]; then
		echo "$1 is a symbolic link"
	elif [ ! -d "$1" ]; then
		echo "$1 is not a directory"
	elif [ ! -O "$1" ]; then
		set -- "$1" $(ls -ldn "$1")
		echo "$1 belongs to uid $4"
	else
		return 0
	fi
	return 1
}

# Nobody else can do anything below a base that is ours and 0700, so that what is found there is ours. By the umask it is so from its beginning.
make() {
	[ -e "$base" ] || [ -L "$base" ] || mkdir "$base" || [ -d "$base" ] || return 1
	ours "$base" || return 1
	case $(ls -ldn "$base") in
	d???--[-S]---*) ;;
	*)
		echo "$base has a mode with which others can enter"
		return 1
		;;
	esac
	for dir in "$base/$run" "$base/$run/$name"; do
		[ -e "$dir" ] || [ -L "$dir" ] || mkdir "$dir" || [ -d "$dir" ] || return 1
		ours "$dir" && chmod 700 "$dir" || return 1
	done
	rm -f "$base/$run/$name"/.up-* # what a broken copy left; nobody else uploads here
}

main() {
	umask 077
	LC_ALL=C
	export LC_ALL
	PATH=${PATH:-/usr/bin:/bin}:/usr/bin:/bin:/usr/sbin:/sbin
	# A clean-up of another run may remove the base while it is empty, between two of these steps.
	if said=$(make 2>&1) || said=$(make 2>&1) || said=$(make 2>&1); then
		echo ok
	else
		echo fail "$said" | tr '\n' ' '
		echo
	fi
}
