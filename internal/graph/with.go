package graph

import "slices"

// With returns a definition that also has these resources, which the caller answers for: they were not parsed, and none
// of their IDs is declared. d stays as it is.
func (d *Definition) With(resources []Resource) *Definition {
	if len(resources) == 0 {
		return d
	}
	more := *d
	more.Resources = slices.Concat(d.Resources, resources)
	return &more
}
