package command

import "syscall"

// processAttributes makes a command die with the thread that started it. Go keeps such threads until the process ends,
// so this is what ends commands when the engine itself is killed without a chance to do it.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
