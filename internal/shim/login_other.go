//go:build unix && !linux

package shim

// login is what has to be known to start the daemon so that it outlives the login that starts it: nothing without logind.
type login struct{}

func thisLogin() login { return login{} }

func (login) outlive() (before []string, warning string) { return nil, "" }

func (login) warning(string) string { return "" }
