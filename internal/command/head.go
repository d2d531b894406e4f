package command

import "bytes"

// Head keeps the beginning of what a command writes, up to Most bytes, and lets the rest go. It is for one writer, and read when that is done.
type Head struct {
	Most int

	kept bytes.Buffer // not embedded: its ReadFrom has no bound
	cut  bool
}

// Write implements io.Writer; it never fails.
func (h *Head) Write(p []byte) (int, error) {
	keep := min(len(p), h.Most-h.kept.Len())
	h.cut = h.cut || keep < len(p)
	h.kept.Write(p[:keep])
	return len(p), nil
}

// Bytes is what was kept. It is valid until the next Write.
func (h *Head) Bytes() []byte { return h.kept.Bytes() }

// String is what was kept.
func (h *Head) String() string { return h.kept.String() }

// Cut reports whether there was more.
func (h *Head) Cut() bool { return h.cut }
