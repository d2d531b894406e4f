package exec

import "context"

// shifted is an Output whose first bytes are those of earlier sessions of the host: every shim counts from 0, and the log goes on.
// So no shim needs to know of them, however old it is.
type shifted struct {
	Output
	start uint64
}

// Offset is 0 also where the log lacks something of what came before; Write refuses to go on from there.
func (s shifted) Offset() uint64 { return max(s.Output.Offset(), s.start) - s.start }

func (s shifted) Write(ctx context.Context, offset uint64, stderr bool, data []byte) error {
	return s.Output.Write(ctx, s.start+offset, stderr, data)
}

func (s shifted) Gap(from, to uint64) error { return s.Output.Gap(s.start+from, s.start+to) }
