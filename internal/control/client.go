package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// Ask sends a request to the initiator of the run in dir and returns its status, for OpStatus. Where nobody listens,
// errors.Is(err, ErrNobody).
func Ask(ctx context.Context, dir string, r Request) (json.RawMessage, error) {
	conn, lines, err := open(ctx, dir, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // the answer is all that there is
	return lines.first()
}

// Follow gives each event of the run in dir to emit, as a line of JSON without its end, until the run ends (nil), ctx does, or emit
// fails.
func Follow(ctx context.Context, dir string, emit func(line []byte) error) error {
	conn, lines, err := open(ctx, dir, Request{Op: OpEvents})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := lines.first(); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	for {
		line, err := lines.next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("follow the run: %w", err)
		}
		if err := emit(line); err != nil {
			return err
		}
	}
}

type lineReader struct{ *bufio.Reader }

func (r lineReader) next() ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err // half a line is none
	}
	return line[:len(line)-1], nil
}

func (r lineReader) first() (json.RawMessage, error) {
	line, err := r.next()
	if err != nil {
		return nil, fmt.Errorf("the initiator did not answer: %w", err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, fmt.Errorf("the initiator's answer: %w", err)
	}
	if !a.OK {
		return nil, fmt.Errorf("the initiator refused: %s", a.Error)
	}
	return a.Status, nil
}

func open(ctx context.Context, dir string, r Request) (net.Conn, lineReader, error) {
	path, err := socketPath(dir)
	if err != nil {
		return nil, lineReader{}, err
	}
	conn, err := (&net.Dialer{Timeout: greetFor}).DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, lineReader{}, ErrNobody // what is there was left by one that died
	}
	if err != nil {
		return nil, lineReader{}, err
	}
	err = conn.SetDeadline(time.Now().Add(greetFor))
	if err == nil {
		err = json.NewEncoder(conn).Encode(r)
	}
	if err != nil {
		return nil, lineReader{}, errors.Join(err, conn.Close())
	}
	return conn, lineReader{bufio.NewReader(conn)}, nil
}
