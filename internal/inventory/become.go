package inventory

import (
	"fmt"
	"regexp"
)

// The methods to become another user.
const (
	Sudo = "sudo"
	Doas = "doas"
)

// userName is what users are called on hosts: portable names, and the final $ of machine accounts. None is a flag or means anything to a shell.
var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?$`)

// ValidBecomeUser says why name can't be that of a user to become.
func ValidBecomeUser(name string) error {
	if !userName.MatchString(name) {
		return fmt.Errorf("%q is no name of a user to become: use letters, digits and . _ -", name)
	}
	return nil
}

// ValidBecomeMethod says why there is no such method.
func ValidBecomeMethod(method string) error {
	if method != Sudo && method != Doas {
		return fmt.Errorf("unknown method %q to become another user: use %s or %s", method, Sudo, Doas)
	}
	return nil
}
