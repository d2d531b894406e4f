package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// trusted refuses files that others than this user and root could have written. What is no regular file (a pipe of the
// shell, /dev/null) was named by the person.
func trusted(info fs.FileInfo) error {
	if info.IsDir() {
		return errors.New("is a directory")
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others can write it (mode %04o), and so could have any program run: chmod go-w it", info.Mode().Perm())
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to another user (uid %d), who could have any program run", s.Uid)
	}
	return nil
}
