package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mgmt-remote/mgmt-remote/internal/exports"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// exportResource is a file that is offered to the other hosts, not made here. Where its content is a source's, it
// follows that.
type exportResource struct {
	id    graph.ID
	file  fileResource
	world World
}

// newExport makes what offers r. A machine that is alone has nobody to offer it to, and nothing to do about that.
func newExport(r *graph.Resource, w World) (resource, error) {
	spec, isFile := r.Spec.(*graph.File)
	switch {
	case !isFile:
		return nil, fmt.Errorf("engine: %s: only files are exported", r.ID)
	case w == nil:
		return noopResource{}, nil
	}
	return &exportResource{id: r.ID, file: fileResource{spec}, world: w}, nil
}

func (x *exportResource) check(context.Context) (string, error) {
	data, size, err := x.data()
	if err != nil {
		return "", err
	}
	if offered, ok := x.world.Offered(x.id); ok && bytes.Equal(offered, data) {
		return "", nil
	}
	if x.file.spec.Directory() {
		return "offer a directory to other hosts", nil
	}
	return fmt.Sprintf("offer %d bytes to other hosts", size), nil
}

func (x *exportResource) apply(ctx context.Context) (string, error) {
	data, _, err := x.data()
	if err != nil {
		return "", err
	}
	return "", x.world.Offer(ctx, x.id, data)
}

func (x *exportResource) paths() []string {
	if x.file.spec.Source == "" {
		return nil
	}
	return []string{x.file.spec.Source}
}

// data is what others are to see.
func (x *exportResource) data() (data []byte, size int, err error) {
	var content []byte
	if !x.file.spec.Directory() {
		if content, err = x.content(); err != nil {
			return nil, 0, err
		}
	}
	data, err = exports.Encode(x.file.spec, content)
	return data, len(content), err
}

func (x *exportResource) content() (content []byte, err error) {
	in, _, err := x.file.content()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	// One byte too many, so that Encode can tell.
	return io.ReadAll(io.LimitReader(in, exports.MaxContent+1))
}
