package world

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// callLimit bounds each request, so that a link that swallows everything is noticed.
	callLimit = 5 * time.Second
	// retryDelay is the pause after a request failed.
	retryDelay = 500 * time.Millisecond
)

// refusal is an answer that is not put into a code: the client of etcd only passes its words on.
type refusal string

func (r refusal) Error() string { return string(r) }

var errWatchEnded = errors.New("the watch ended")

// watchEnded says why a watch ended, with the error of its last answer, if there is one. begun says whether it was ever
// created. One that is refused ends without an answer where the client has other watches.
func watchEnded(ctx context.Context, begun bool, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && !begun:
		return refusal("it gives no reason; a host can't have any number of watches")
	case err == nil:
		return errWatchEnded
	case !begun && code(err) == codes.Unknown:
		return refusal(err.Error())
	default:
		return err
	}
}

// once makes one attempt.
func once(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return call(ctx)
}

// persist repeats a request while the link is away, until ctx ends. An error is ctx's, or a refusal; what says what was
// to be done, and is not used elsewhere. The request may be answered more than once.
func persist(ctx context.Context, what string, call func(context.Context) error) error {
	for {
		err := once(ctx, call)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case refused(err):
			return fmt.Errorf("%s: the initiator refuses it: %s", what, words(err))
		}
		if !pause(ctx, retryDelay) {
			return ctx.Err()
		}
	}
}

// refused reports whether the same request would get the same answer again: it is not allowed, malformed, too large, or
// too much has been written.
func refused(err error) bool {
	if errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, rpctypes.ErrCompacted) {
		return false // etcd is busy; what was asked for was too old
	}
	if r := refusal(""); errors.As(err, &r) {
		return true
	}
	switch code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.ResourceExhausted, codes.OutOfRange, codes.Unimplemented, codes.FailedPrecondition:
		return true
	default:
		return false
	}
}

func code(err error) codes.Code {
	if known := (rpctypes.EtcdError{}); errors.As(err, &known) {
		return known.Code()
	}
	return status.Code(err)
}

// words is an error without what gRPC puts around it.
func words(err error) string {
	if s, is := status.FromError(err); is {
		return s.Message()
	}
	return err.Error()
}

// pause waits before another attempt; it is false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
