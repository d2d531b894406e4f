package mgmt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

const (
	// deployLimit bounds a deploy: mgmt itself waits for an unreachable etcd for ever.
	deployLimit = 2 * time.Minute
	// deployGrace is how long mgmt gets after SIGINT before it is killed.
	deployGrace = 5 * time.Second
	// keptOutput is how much of mgmt's last output an error shows, in bytes.
	keptOutput = 2000
)

// Deployment says what is deployed, with which mgmt, and where.
type Deployment struct {
	Binary string // mgmt for this machine
	Code   Code
	Seeds  string // URL of the etcd
	Noop   bool   // hosts change nothing
	Logger *slog.Logger
}

// Deploy puts the code into the etcd with `mgmt deploy`. Where ctx ends first, mgmt gets SIGINT and the fault is of kind
// Canceled; all others are of kind Environment and show the end of what mgmt said. All of its output is in the log, at
// level Info.
func Deploy(ctx context.Context, d Deployment) error {
	const op = "deploy"
	limited, cancel := context.WithTimeout(ctx, deployLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, d.Binary, deployArgs(d.Code, d.Seeds, d.Noop)...)
	// A ^C at the terminal is for us; whether mgmt is to end is ours to say.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = deployGrace
	out := &output{logger: d.Logger}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	out.flush()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Wrap(fault.Canceled, op, ctx.Err())
	case limited.Err() != nil:
		return fault.New(fault.Environment, op, "%s deploy took longer than %v: %s", d.Binary, deployLimit, out.end())
	}
	exit := &exec.ExitError{}
	if !errors.As(err, &exit) {
		return fault.Wrap(fault.Environment, op, fmt.Errorf("run %s: %w", d.Binary, err)).
			WithRemedy("--binary must be an mgmt that runs on this machine, too: it deploys the code")
	}
	return fault.New(fault.Environment, op, "%s deploy %s %s: %w: %s", d.Binary, d.Code.Language, d.Code.Path, err, out.end()).
		WithRemedy("use -v for all that mgmt said")
}

// output logs line by line and keeps the end.
type output struct {
	logger *slog.Logger

	mu   sync.Mutex
	line []byte
	tail []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(o.tail, p...)
	o.tail = o.tail[max(0, len(o.tail)-keptOutput):]
	o.line = append(o.line, p...)
	for {
		line, rest, ok := bytes.Cut(o.line, []byte{'\n'})
		if !ok {
			break
		}
		o.log(line)
		o.line = rest
	}
	if len(o.line) > keptOutput { // no text
		o.log(o.line)
		o.line = nil
	}
	return len(p), nil
}

func (o *output) log(line []byte) { o.logger.Info("mgmt deploy", "says", string(line)) }

func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.line) > 0 {
		o.log(o.line)
	}
}

// end is what mgmt said last, for an error.
func (o *output) end() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if text := strings.TrimSpace(string(o.tail)); text != "" {
		return text
	}
	return "it said nothing"
}
