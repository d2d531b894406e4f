package engine

import (
	"context"
	"fmt"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// resource is one thing that can be checked and applied. Only one worker uses it at a time. It keeps no state between
// calls: what there is to do follows from the machine and from the fact that it was asked.
type resource interface {
	// check changes nothing. It says in words what apply would change, or "" if nothing. For commands without a
	// condition there is always something to do; the engine asks only when there is a reason.
	check(ctx context.Context) (change string, err error)
	// apply makes it as declared. It looks again itself, since time has passed since check.
	apply(ctx context.Context) (output string, err error)
}

func newResource(r *graph.Resource) (resource, error) {
	switch spec := r.Spec.(type) {
	case *graph.Noop:
		return noopResource{}, nil
	case *graph.File:
		return &fileResource{spec}, nil
	case *graph.Exec:
		return &execResource{spec}, nil
	default:
		return nil, fmt.Errorf("engine: %s: unknown kind of resource %T", r.ID, spec)
	}
}

type noopResource struct{}

func (noopResource) check(context.Context) (string, error) { return "", nil }
func (noopResource) apply(context.Context) (string, error) { return "", nil }
