package sshd

import (
	"errors"
	"syscall"
)

// reservePort finds a port that is the server's until the test ends, also while it is stopped. A socket holds it that is bound and does
// not listen: the kernel gives such a port to nobody who asks for any, while a server, which binds with SO_REUSEADDR, can have it. Who
// connects meanwhile is refused.
func (s *Server) reservePort() (int, error) {
	if s.netns != "" {
		return 22, nil // nobody else is there
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	s.t.Cleanup(func() { _ = syscall.Close(fd) }) // nothing was sent over it
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	at, ok := addr.(*syscall.SockaddrInet4)
	if !ok {
		return 0, errors.New("not an IPv4 address")
	}
	return at.Port, nil
}
