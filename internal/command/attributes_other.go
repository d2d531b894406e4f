//go:build unix && !linux

package command

import "syscall"

// processAttributes has nothing to add where there is no parent-death signal.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
