package sshconn

import (
	"context"
	"io"
)

// Door stands between the start of a command and its streams, for commands that another program has to let through first, such as
// sudo. One door is for one command.
type Door interface {
	// Watch returns what standard error is written to: it hands to next what the command itself says, and keeps the rest. It is called
	// once, before Pass.
	Watch(next io.Writer) io.Writer
	// Pass returns nil as soon as the command itself runs, and otherwise why it can't. It alone writes to ch, and reads nothing from
	// it. Where it fails ch is closed.
	Pass(ctx context.Context, ch *Channel) error
}

// OpenThrough is Open for a command behind a door.
func (c *Conn) OpenThrough(ctx context.Context, command string, door Door) (*Channel, error) {
	ch, err := c.open(ctx, start{op: "run", request: "exec", payload: command, door: door})
	if err != nil {
		return nil, err
	}
	if err := ch.pass(ctx, door); err != nil {
		return nil, err
	}
	return ch, nil
}

// pass goes through the door and closes the channel where that fails.
func (c *Channel) pass(ctx context.Context, door Door) error {
	err := door.Pass(ctx, c)
	if err == nil {
		return nil
	}
	// Close sends, and a send blocks on a dead link; the goroutine ends with the connection at the latest.
	go func() { _ = c.ch.Close() }()
	return err
}

// Ended is closed when the server has closed the channel: Wait does not block any more.
func (c *Channel) Ended() <-chan struct{} { return c.exited }
