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
	a, err := lines.first()
	return a.Status, err
}

// Follow gives each event of the run in dir to emit, as a line of JSON without its end, until the initiator ends it (nil): the run is over, the
// initiator is gone, or we were too slow. It ends with ctx, too, and where emit fails. past is true for the lines at the beginning
// that tell what was before.
func Follow(ctx context.Context, dir string, emit func(line []byte, past bool) error) error {
	conn, lines, err := open(ctx, dir, Request{Op: OpEvents})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	begin, err := lines.first()
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	for n := 0; ; n++ {
		line, err := lines.next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("follow the run: %w", err)
		}
		if err := emit(line, n < begin.Snapshot); err != nil {
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

func (r lineReader) first() (a answer, err error) {
	line, err := r.next()
	if err != nil {
		return a, fmt.Errorf("the initiator did not answer: %w", err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("the initiator's answer: %w", err)
	}
	if !a.OK {
		return a, fmt.Errorf("the initiator refused: %s", a.Error)
	}
	return a, nil
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
