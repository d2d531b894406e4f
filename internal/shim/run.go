package shim

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// pipeWait is how long output of descendants is taken after the payload itself ended.
const pipeWait = 2 * time.Second

// run is one run of the payload and the pipes that its output comes from.
type run struct {
	*payload
	stdout, stderr *os.File
	out            *outputLog
	log            *logger
}

// startRun starts the payload; address is its endpoint.
func (s *server) startRun(address string) (oneRun, error) {
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer outW.Close() //nolint:errcheck // the payload has a copy of its own
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, outR.Close())
	}
	defer errW.Close() //nolint:errcheck // the same
	cfg := payloadConfig{argv: s.spec.Argv, dir: s.spec.Dir, stdout: outW, stderr: errW, reaper: &s.reaper}
	if cfg.dir == "" {
		cfg.dir = s.dir
	}
	own := []string{
		"ETCDCTL_ENDPOINTS=" + address, "ETCDCTL_API=3",
		"MGMT_REMOTE_RUN=" + s.spec.Run, "MGMT_REMOTE_HOST=" + s.spec.Host, "MGMT_REMOTE_DIR=" + s.dir, "PWD=" + cfg.dir,
	}
	cfg.env = mergeEnv(os.Environ(), own, s.spec.Env)
	if mark := s.spec.EndpointMark; mark != "" {
		cfg.argv, cfg.env = replaceAll(cfg.argv, mark, address), replaceAll(cfg.env, mark, address)
	}
	p, err := startPayload(cfg)
	if err != nil {
		return nil, errors.Join(err, outR.Close(), errR.Close())
	}
	s.keep(func(r *record) { // its session is recorded already, that is enough to find it
		r.Payload = p.process
		r.Starts++
	})
	return &run{payload: p, stdout: outR, stderr: errR, out: s.out, log: s.log}, nil
}

func replaceAll(in []string, old, text string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ReplaceAll(s, old, text)
	}
	return out
}

// wait keeps the payload's output until it ends, and returns its exit.
func (r *run) wait() *wire.Exit {
	pumped := make(chan struct{}, 2)
	for _, src := range []struct {
		f      *os.File
		stderr bool
	}{{r.stdout, false}, {r.stderr, true}} {
		go func() {
			r.pump(src.f, src.stderr)
			pumped <- struct{}{}
		}()
	}
	<-r.done
	// A descendant that keeps the pipes open must not keep the exit from being told.
	deadline := time.Now().Add(pipeWait)
	for _, f := range []*os.File{r.stdout, r.stderr} {
		if err := f.SetReadDeadline(deadline); err != nil {
			r.log.printf("output of descendants: %v", err)
			_ = f.Close() // the reader ends
		}
	}
	<-pumped
	<-pumped
	for _, f := range []*os.File{r.stdout, r.stderr} {
		_ = f.Close() // only read
	}
	_, end := r.out.bounds()
	exit := &r.exit
	exit.OutputEnd = end
	return exit
}

func (r *run) pump(f *os.File, stderr bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := r.out.append(stderr, buf[:n]); err != nil {
				r.log.printf("%v", err)
			}
		}
		if err != nil {
			return
		}
	}
}
