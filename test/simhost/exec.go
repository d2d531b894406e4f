package simhost

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
)

func compare(a, b string) int { return cmp.Compare(a, b) }

// maxScript bounds what is read as a script.
const maxScript = 1 << 20

// Exit statuses of a shell.
const (
	exitOK       = 0
	exitFailure  = 1
	exitNotExec  = 126
	exitNotFound = 127
)

// exec runs a command line and returns its exit status.
func (c *connection) exec(line string, ch ssh.Channel) int {
	switch line {
	case probe.Command:
		return c.script(StageProbe, ch, c.probe)
	case transfer.InstallCommand:
		return c.script(StageInstall, ch, c.install)
	case transfer.RemoveCommand:
		return c.script(StageRemove, ch, c.remove)
	}
	words, ok := split(line)
	if !ok || len(words) < 3 {
		return c.unknown(line, ch)
	}
	program, args := words[0], words[1:]
	if args[0] == "shim" {
		args = args[1:]
	}
	var run func() int
	switch {
	case len(args) == 3 && (args[0] == "start" || args[0] == "attach"):
		run = func() int { return c.attach(args[1], args[2], args[0] == "start", ch) }
	case len(args) == 4 && args[0] == "tunnel":
		run = func() int { return c.tunnel(args[1], args[2], args[3], ch) }
	default:
		return c.unknown(line, ch)
	}
	mode, there := c.host.tree.mode(program)
	switch {
	case !there:
		say(ch.Stderr(), "sh: 1: %s: not found\n", program)
		return exitNotFound
	case !mode.IsRegular() || mode.Perm()&0o100 == 0:
		say(ch.Stderr(), "sh: 1: %s: Permission denied\n", program)
		return exitNotExec
	}
	return run()
}

func (c *connection) unknown(line string, ch ssh.Channel) int {
	c.host.surprise("exec %s", line)
	say(ch.Stderr(), "sh: 1: %s: not found\n", line)
	return exitNotFound
}

func (c *connection) script(s Stage, ch ssh.Channel, run func(script []byte, ch ssh.Channel) int) int {
	script, err := io.ReadAll(io.LimitReader(ch, maxScript))
	if err != nil || !c.host.reach(c.link, s) {
		return exitFailure
	}
	say(ch, "%s", c.host.opts.Noise)
	return run(script, ch)
}

func (c *connection) probe(script []byte, ch ssh.Channel) int {
	marker, err := probe.MarkerOf(script)
	if err != nil {
		say(ch.Stderr(), "%v\n", err)
		return exitFailure
	}
	v := variables(script)
	facts := c.host.facts(v["run"], v["host"], v["prefix"], strings.Fields(v["bases"]))
	c.host.event(EventProbed, v["run"]+"/"+v["host"])
	say(ch, "%s", probe.Format(marker, facts))
	return exitOK
}

// answer puts the lines of a script of package transfer between its markers.
func answer(script []byte, ch ssh.Channel, lines []string) int {
	for line := range strings.Lines(string(script)) {
		if marker, ok := strings.CutPrefix(strings.TrimSpace(line), "echo mr"); ok {
			say(ch, "\nmr%s\n%s\nmr%s\n", marker, strings.Join(lines, "\n"), marker)
			return exitOK
		}
	}
	say(ch.Stderr(), "sh: no marker in the script\n")
	return exitFailure
}

// install reads the calls of the script's function install: TEMP PATH SHA256 gzip|plain.
func (c *connection) install(script []byte, ch ssh.Channel) int {
	var lines []string
	for line := range strings.Lines(string(script)) {
		words, ok := split(strings.TrimSpace(line))
		if ok && len(words) == 5 && words[0] == "install" && len(words[3]) == 2*sha256.Size {
			lines = append(lines, c.host.install(words[1], words[2], words[3], words[4] == "gzip"))
		}
	}
	return answer(script, ch, lines)
}

func (h *Host) install(temp, target, sum string, packed bool) string {
	defer h.tree.removeAll(temp)
	data, err := h.tree.read(temp)
	if err != nil {
		return fmt.Sprintf("fail %s: %v", temp, err)
	}
	if h.fault(func(s switches) bool { return s.diskFull }) {
		return "fail mkdir: No space left on device"
	}
	if h.opts.Trust {
		data = nil
	} else if data, err = verify(data, sum, packed); errors.Is(err, errHash) {
		return "hash"
	} else if err != nil {
		return fmt.Sprintf("fail gzip: %v", err)
	}
	dir := path.Dir(target)
	for _, d := range []string{path.Dir(dir), dir} {
		if _, there := h.tree.mode(d); there {
			continue
		}
		if err := h.tree.mkdir(d, 0o700); err != nil {
			return fmt.Sprintf("fail mkdir: %s: %v", d, err)
		}
	}
	h.tree.put(target, data, 0o700)
	h.event(EventInstalled, target)
	return "ok"
}

var errHash = errors.New("another hash")

func verify(data []byte, sum string, packed bool) ([]byte, error) {
	if packed {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
	if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
		return nil, errHash
	}
	return data, nil
}

func (c *connection) remove(script []byte, ch ssh.Channel) int {
	v := variables(script)
	base, run := v["base"], v["run"]
	dir := path.Join(base, run, v["name"])
	c.host.mu.Lock()
	s := c.host.sessions[dir]
	if s != nil && !s.over() {
		pid := s.shimPID
		c.host.mu.Unlock()
		return answer(script, ch, []string{fmt.Sprintf("live %d", pid)})
	}
	delete(c.host.sessions, dir)
	c.host.mu.Unlock()
	if mode, there := c.host.tree.mode(base); there && !mode.IsDir() {
		return answer(script, ch, []string{"fail " + base + " is not what this program made"})
	}
	c.host.tree.removeAll(dir)
	c.host.removeEmpty(v["begun"], path.Join(base, run), path.Join(base, "cache"), base)
	c.host.event(EventRemoved, dir)
	return answer(script, ch, []string{"ok"})
}

// removeEmpty removes the directories that are empty, in order. The others stay, which is no error.
func (h *Host) removeEmpty(dirs ...string) {
	for _, dir := range dirs {
		_ = h.tree.remove(dir, true)
	}
}

func (c *connection) sftp(ch ssh.Channel) int {
	if !c.host.reach(c.link, StageSFTP) {
		return exitFailure
	}
	c.host.event(EventSFTP, "")
	free := func() int64 {
		if c.host.fault(func(s switches) bool { return s.diskFull }) {
			return 0
		}
		return c.host.opts.Facts.FreeBytes
	}
	server := sftp.NewRequestServer(ch, files{c.host.tree, free}.handlers(), sftp.WithStartDirectory(c.host.opts.Facts.Home))
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return exitFailure
	}
	return exitOK
}
