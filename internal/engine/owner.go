package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownership is the declared owner and group as numbers; -1 stands for not declared.
type ownership struct {
	uid, gid int
}

func (o ownership) apply(uid, gid int) (int, int) {
	if o.uid >= 0 {
		uid = o.uid
	}
	if o.gid >= 0 {
		gid = o.gid
	}
	return uid, gid
}

func (f *fileResource) ownership() (ownership, error) {
	o := ownership{uid: -1, gid: -1}
	var err error
	if f.spec.Owner != "" {
		if o.uid, _, err = lookupUser(f.spec.Owner); err != nil {
			return o, err
		}
	}
	if f.spec.Group != "" {
		if o.gid, err = lookupGroup(f.spec.Group); err != nil {
			return o, err
		}
	}
	return o, nil
}

// lookupUser finds a user by name or number; gid is -1 where only the number is known.
func lookupUser(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		n, numErr := strconv.ParseUint(name, 10, 31)
		if numErr != nil {
			return 0, 0, fmt.Errorf("owner: %w", err)
		}
		if u, err = user.LookupId(name); err != nil {
			return int(n), -1, nil //nolint:nilerr // a number needs no entry
		}
	}
	uid, errU := strconv.Atoi(u.Uid)
	gid, errG := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(errU, errG)
}

func lookupGroup(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	n, numErr := strconv.ParseUint(name, 10, 31)
	if numErr != nil {
		return 0, fmt.Errorf("group: %w", err)
	}
	return int(n), nil
}

// ids returns a file's owner and group.
func ids(info fs.FileInfo) (uid, gid int) {
	if st, isStat := info.Sys().(*syscall.Stat_t); isStat {
		return int(st.Uid), int(st.Gid)
	}
	return -1, -1
}

// attributes are the steps that correct owner and mode in place. The owner comes first, since changing it clears setuid
// and setgid, and since a failure then leaves the file untouched.
func (f *fileResource) attributes(info fs.FileInfo, own ownership) []stepToDo {
	var steps []stepToDo
	path := f.spec.Location()
	mode := info.Mode() & (fs.ModePerm | specialBits)
	wantMode := mode
	if f.spec.Mode != nil {
		wantMode = *f.spec.Mode
	}
	uid, gid := ids(info)
	wantUID, wantGID := own.apply(uid, gid)
	chown := wantUID != uid || wantGID != gid
	if chown {
		steps = append(steps, stepToDo{fmt.Sprintf("owner %d:%d → %d:%d", uid, gid, wantUID, wantGID), func() error {
			return os.Lchown(path, wantUID, wantGID)
		}})
	}
	switch {
	case wantMode != mode:
		steps = append(steps, stepToDo{fmt.Sprintf("mode %s → %s", octal(mode), octal(wantMode)), func() error { return f.chmod(wantMode) }})
	case chown && mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		steps = append(steps, stepToDo{"keep mode " + octal(mode), func() error { return f.chmod(mode) }})
	}
	return steps
}

// chmod changes the mode of the file itself. Through a descriptor a link that was put there meanwhile is not followed;
// a file that we own but can't open has no link in its way, it was looked at just now.
func (f *fileResource) chmod(mode fs.FileMode) (err error) {
	path := f.spec.Location()
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return os.Chmod(path, mode)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return file.Chmod(mode)
}

// octal writes a mode as definitions do.
func octal(mode fs.FileMode) string {
	n := uint32(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		n |= 0o4000
	}
	if mode&fs.ModeSetgid != 0 {
		n |= 0o2000
	}
	if mode&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return fmt.Sprintf("%04o", n)
}
