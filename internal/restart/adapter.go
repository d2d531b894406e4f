package restart

import (
	"errors"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Capture is a receiver middleware that every actor of this project has: a panic that is not a *fault.Fault becomes
// one of kind Bug that keeps the stack. The supervisor's strategy gets the bare reason and never sees the stack, so it
// has to be taken here.
func Capture(next actor.ReceiverFunc) actor.ReceiverFunc {
	return func(ctx actor.ReceiverContext, envelope *actor.MessageEnvelope) {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case *fault.Fault:
				panic(r)
			default:
				panic(fault.New(fault.Bug, "handle a message", "panic: %v\n%s", r, debug.Stack()))
			}
		}()
		next(ctx, envelope)
	}
}

// FaultOf returns the fault in the reason that a strategy is given.
func FaultOf(reason any) *fault.Fault {
	if err, ok := reason.(error); ok {
		var f *fault.Fault
		if errors.As(err, &f) {
			return f
		}
		return fault.Wrap(fault.Bug, "handle a message", err)
	}
	return fault.New(fault.Bug, "handle a message", "panic: %v", reason)
}
