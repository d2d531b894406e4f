package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/hashicorp/yamux"

	"github.com/mgmt-remote/mgmt-remote/internal/wire/mux"
)

// tunnelMain is the stdio tunnel: it takes connections at the socket of an epoch and carries them over its stdio, one
// stream each, until that ends. Then it removes the socket.
func tunnelMain(dir, epochText, marker string) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	epoch, err := strconv.ParseUint(epochText, 10, 64)
	if err != nil {
		return complain(fmt.Errorf("%q is no epoch", epochText))
	}
	if err := checkDir(dir); err != nil {
		return complain(err)
	}
	if err := os.Chdir(dir); err != nil {
		return complain(err)
	}
	name := tunnelSocket(epoch)
	ln, err := listenUnix(name)
	if err != nil {
		return complain(err)
	}
	err = serveTunnel(ln, marker, signals)
	if err := errors.Join(err, ln.Close(), remove(name)); err != nil {
		return complain(err)
	}
	return 0
}

func serveTunnel(ln *net.UnixListener, marker string, signals <-chan os.Signal) error {
	if _, err := fmt.Printf("\n%s\n", marker); err != nil {
		return err
	}
	session, err := mux.Client(stdio{})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- acceptTunnel(ln, session) }()
	select {
	case <-session.CloseChan(): // the channel has ended, as it should
		return nil
	case <-signals:
		return nil
	case err := <-failed:
		return err
	}
}

func acceptTunnel(ln *net.UnixListener, session *yamux.Session) error {
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			return fmt.Errorf("accept at the tunnel: %w", err)
		}
		go func() {
			st, err := session.Open()
			if err != nil {
				_ = c.Close() // the session's end, told elsewhere
				return
			}
			mux.Relay(c, st)
		}()
	}
}
