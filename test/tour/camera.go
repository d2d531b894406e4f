package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/terminal"
)

const (
	// shot is the time between two looks at the screen.
	shot = 100 * time.Millisecond
	// still is the longest that the film stands still while something is waited for.
	still = time.Second
	// patience is the longest that anything is waited for.
	patience = 2 * time.Minute
	// chunk is how many characters are typed between two looks.
	chunk = 3
	// final is how long the last frame is shown before the film begins again.
	final = 3 * time.Second
)

// prompt is the last row of a screen whose shell waits for a command.
var prompt = regexp.MustCompile(`(^|\n)\$\s*$`)

// camera looks at a terminal and keeps what changes.
type camera struct {
	ctx      context.Context
	terminal *terminal.Terminal
	tick     *time.Ticker
	frames   []frame
	now      time.Duration // in the film
	idle     time.Duration // since something changed
}

// frame is a screen that is shown from a moment on.
type frame struct {
	at     time.Duration
	screen terminal.Screen
}

func newCamera(ctx context.Context, t *terminal.Terminal) *camera {
	return &camera{ctx: ctx, terminal: t}
}

// film ends the recording.
func (c *camera) film() *film { return &film{frames: c.frames, length: c.now + final} }

// play types a scene at an empty screen and waits until the shell waits again.
func (c *camera) play(s scene) error {
	c.tick = time.NewTicker(shot)
	defer c.tick.Stop()
	steps := []func() error{
		func() error { return c.until(prompt) },
		func() error { return c.terminal.Press("C-l") },
		func() error { return c.hold(3) },
		func() error { return c.write("# " + s.about) },
		func() error { return c.hold(3) },
		func() error { return c.write(s.command) },
	}
	for _, a := range s.actions {
		steps = append(steps, func() error { return c.act(a) })
	}
	steps = append(steps, func() error { return c.until(prompt) }, func() error { return c.check(s.end) },
		func() error { return c.hold(s.look) })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// write types a line as a person would, and ends it.
func (c *camera) write(line string) error {
	var tail string // as it is shown: a long line goes on in the next row
	for _, r := range line[max(0, len(line)-6):] {
		tail += regexp.QuoteMeta(string(r)) + `\n?`
	}
	tail += `\s*$`
	for len(line) > 0 {
		n := min(chunk, len(line))
		if err := errors.Join(c.terminal.Type(line[:n]), c.hold(1)); err != nil {
			return err
		}
		line = line[n:]
	}
	// A busy shell shows late what was typed; until then the prompt looks like that of a shell that waits.
	return errors.Join(c.until(regexp.MustCompile(tail)), c.hold(2), c.terminal.Press("Enter"), c.hold(1))
}

func (c *camera) act(a action) error {
	if a.see != nil {
		if err := c.until(a.see); err != nil {
			return err
		}
	}
	if err := c.hold(a.look); err != nil {
		return err
	}
	// Keys that come too late would be taken for a command.
	if text := c.text(); prompt.MatchString(text) {
		return fmt.Errorf("the command has ended before keys %q%q:\n%s", a.text, a.press, text)
	}
	if a.text != "" {
		if err := c.terminal.Type(a.text); err != nil {
			return err
		}
	}
	if len(a.press) > 0 {
		return c.terminal.Press(a.press...)
	}
	return nil
}

// check fails unless the last frame shows what it should.
func (c *camera) check(re *regexp.Regexp) error {
	if text := c.text(); re != nil && !re.MatchString(text) {
		return fmt.Errorf("%v is not to be seen at the end:\n%s", re, text)
	}
	return nil
}

// hold lets the film go on for tenths of a second, whether something changes or not.
func (c *camera) hold(tenths int) error {
	for range tenths {
		if _, err := c.shoot(); err != nil {
			return err
		}
		c.now += shot
	}
	c.idle = 0
	return nil
}

// until films until the screen shows what is looked for. Where nothing changes for long, the film does not show all of it.
func (c *camera) until(re *regexp.Regexp) error {
	over := time.Now().Add(patience)
	for {
		text, err := c.shoot()
		if err != nil {
			return err
		}
		if re.MatchString(text) {
			return nil
		}
		if time.Now().After(over) {
			return fmt.Errorf("%v is not to be seen after %v:\n%s", re, patience, text)
		}
		if c.idle < still {
			c.now += shot
			c.idle += shot
		}
	}
}

// shoot waits for the next moment, keeps the screen if it is another one, and returns its text.
func (c *camera) shoot() (string, error) {
	select {
	case <-c.tick.C:
	case <-c.ctx.Done():
		return "", context.Cause(c.ctx)
	}
	screen, err := c.terminal.Screen()
	if err != nil {
		return "", err
	}
	if n := len(c.frames); n == 0 || c.frames[n-1].screen != screen {
		if n > 0 && c.frames[n-1].at == c.now { // else nobody would ever see that one
			c.now += shot
		}
		c.frames = append(c.frames, frame{c.now, screen})
		c.idle = 0
	}
	return c.text(), nil
}

// text is what the last frame shows, without colours.
func (c *camera) text() string {
	return strings.TrimRight(plain(c.frames[len(c.frames)-1].screen.Styled), "\n")
}
