# What there is to become another user with. Set before: marker target. The user's own PATH is not looked at: he could have put anything there.
main() {
	LC_ALL=C PATH=/run/wrappers/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/usr/local/sbin:/usr/pkg/bin:/opt/local/bin
	export LC_ALL PATH
	printf '\n%s BEGIN\n' "$marker"
	printf 'uid=%s\nuser=%s\ntarget=%s\n' "$(id -u)" "$(id -un 2>/dev/null)" "$(id -u "$target" 2>/dev/null)"
	for tool in sudo doas; do
		found=$(command -v $tool) && printf '%s=%s\n' $tool "$found"
	done
	for dir in /usr/lib/openssh /usr/libexec/openssh /usr/lib/ssh /usr/libexec /usr/libexec/ssh /usr/lib64/ssh /usr/lib64/misc /usr/lib/misc /usr/local/libexec /run/current-system/sw/libexec; do
		if [ -x $dir/sftp-server ]; then
			echo sftp=$dir/sftp-server
			break
		fi
	done
	printf '%s END\n' "$marker"
}
main </dev/null
