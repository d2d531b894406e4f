package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// kvResource is a key in what the hosts of a run share. Two hosts that want different values of one key fight, each look
// of one being a reason for the other; SkipLessThan is for keys that only grow.
type kvResource struct {
	spec  *graph.KV
	key   string
	world World
}

var errAlone = errors.New("there is no run whose hosts share keys: this machine is alone")

func newKV(spec *graph.KV, w World) resource {
	if w == nil {
		return aloneResource{}
	}
	key := spec.Key
	if spec.Mapped {
		key += "/" + w.Host()
	}
	return &kvResource{spec: spec, key: key, world: w}
}

// aloneResource stands for what needs other hosts on a machine that has none.
type aloneResource struct{}

func (aloneResource) check(context.Context) (string, error) { return "", errAlone }
func (aloneResource) apply(context.Context) (string, error) { return "", errAlone }

func (k *kvResource) check(ctx context.Context) (string, error) {
	value, found, err := k.world.Get(ctx, k.key)
	if err != nil {
		return "", err
	}
	if !k.different(value, found) || found && k.keeps(value) {
		return "", nil
	}
	return k.change(), nil
}

func (k *kvResource) apply(ctx context.Context) (string, error) {
	change, err := k.check(ctx)
	if err != nil {
		return "", err
	}
	if change == "" {
		return "", errUnchanged // somebody else did it meanwhile
	}
	return "", k.write(ctx)
}

// refreshChange is about a greater value that was left alone.
func (k *kvResource) refreshChange(ctx context.Context) (string, error) {
	value, found, err := k.world.Get(ctx, k.key)
	if err != nil || !k.different(value, found) {
		return "", err
	}
	return k.change(), nil
}

func (k *kvResource) refresh(ctx context.Context) (string, error) { return "", k.write(ctx) }

func (k *kvResource) watch(ctx context.Context, ready, changed func()) error {
	return k.world.Watch(ctx, k.key, ready, changed)
}

func (k *kvResource) different(value string, found bool) bool {
	if k.spec.Value == nil {
		return found
	}
	return !found || value != *k.spec.Value
}

// keeps reports whether a stored value stays because it is greater. One that is no number where numbers are compared is
// replaced: whatever it was, it is not greater.
func (k *kvResource) keeps(stored string) bool {
	if !k.spec.SkipLessThan || k.spec.Value == nil {
		return false
	}
	if k.spec.SkipCmpStyle == graph.CmpString {
		return *k.spec.Value < stored
	}
	have, err := strconv.ParseInt(stored, 10, 64)
	if err != nil {
		return false
	}
	want, err := strconv.ParseInt(*k.spec.Value, 10, 64)
	return err == nil && want < have
}

func (k *kvResource) change() string {
	if k.spec.Value == nil {
		return "remove " + k.key
	}
	return fmt.Sprintf("set %s to %d bytes", k.key, len(*k.spec.Value))
}

func (k *kvResource) write(ctx context.Context) error {
	if k.spec.Value == nil {
		return k.world.Delete(ctx, k.key)
	}
	return k.world.Set(ctx, k.key, *k.spec.Value)
}
