package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// resource is one thing that can be checked and applied. Only one worker uses it at a time. What there is to do follows
// from the machine and from the fact that it was asked; it keeps no state between calls that decides about that.
//
// A resource says with further interfaces what else it can do: watcher, pathWatcher, refresher, differ, onDemand.
type resource interface {
	// check changes nothing. It says in words what apply would change, or "" if nothing. For commands without a
	// condition there is always something to do; the engine asks only when there is a reason.
	check(ctx context.Context) (change string, err error)
	// apply makes it as declared. It looks again itself, since time has passed since check. Where there is nothing to do
	// any more, it may say so with errUnchanged: then the resource has not changed.
	apply(ctx context.Context) (output string, err error)
}

// errUnchanged is what apply returns when it looked more closely than check could, and found that nothing had to change.
var errUnchanged = errors.New("nothing had to change")

// watcher is a resource that sees by itself when it may not be as declared any more.
type watcher interface {
	// watch calls changed whenever there is a reason to look, from any goroutine; changed returns soon. It must already
	// see changes that happen right after the first call of ready, which it makes exactly once. It returns when ctx
	// ends, or with an error when it can't watch (any more): that is told, and it is called again after a growing delay.
	watch(ctx context.Context, ready, changed func()) error
}

// pathWatcher is a resource that is about files: the engine watches the paths for all resources together.
type pathWatcher interface {
	// paths are absolute and clean; what happens to one of them, or to a directory above it, is a reason to look. For
	// a path with a final slash, so is what happens to entries directly in that directory. It is called before each
	// look, by the same worker, and may read the disk to find out.
	paths() []string
}

// onDemand is a resource for which looking may mean acting, so that it is looked at only for reasons that the definition
// gives: it is not polled where it can't be watched, nor looked at because its watcher is back.
type onDemand interface {
	// pollInterval is how often it wants to be looked at; 0 = not without a reason.
	pollInterval() time.Duration
}

// refresher is a resource that does something more when one that it depends on over a notify edge has changed. Without
// this a refresh is a reason to look, and nothing else.
type refresher interface {
	// refreshChange says in words what refresh would do now; "" for nothing. It changes nothing.
	refreshChange(ctx context.Context) (change string, err error)
	// refresh is called where check found nothing to do; what apply just changed needs no refresh.
	refresh(ctx context.Context) (output string, err error)
}

// differ is a resource that can show what would change, for people; it is asked with Noop only.
type differ interface {
	// diff is a unified diff of text, "" where there is nothing to show.
	diff(ctx context.Context) (string, error)
}

// newResource makes what checks and applies r. w is nil on a machine that is alone.
func newResource(r *graph.Resource, w World) (resource, error) {
	if r.Exported() {
		return newExport(r, w)
	}
	switch spec := r.Spec.(type) {
	case *graph.Noop:
		return noopResource{}, nil
	case *graph.File:
		return &fileResource{spec}, nil
	case *graph.Exec:
		if spec.WatchCmd != "" {
			return &watchingExec{execResource{spec}}, nil
		}
		return &execResource{spec}, nil
	case *graph.Svc:
		return newSvc(r.ID, spec)
	case *graph.Pkg:
		return newPkg(r.ID.Name, spec)
	case *graph.User:
		return newUser(r.ID.Name, spec)
	case *graph.Group:
		return newGroup(r.ID.Name, spec)
	case *graph.Timer:
		return newTimer(spec), nil
	case *graph.KV:
		return newKV(spec, w), nil
	default:
		return nil, fmt.Errorf("engine: %s: unknown kind of resource %T", r.ID, spec)
	}
}

type noopResource struct{}

func (noopResource) check(context.Context) (string, error) { return "", nil }
func (noopResource) apply(context.Context) (string, error) { return "", nil }
