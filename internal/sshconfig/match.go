package sshconfig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
)

// criterion is one of a Match line.
type criterion struct {
	what   string // in lower case
	negate bool
	value  string // of those that have one
	at     Origin
}

// parseMatch reads what follows Match.
func parseMatch(s string, at Origin) (list []criterion, err error) {
	for s != "" {
		word := ""
		if word, s, err = nextWord(s); err != nil {
			return nil, err
		}
		if word == "" || word[0] == '#' {
			break
		}
		c := criterion{what: strings.ToLower(strings.TrimPrefix(word, "!")), negate: word[0] == '!', at: at}
		switch c.what {
		case "all":
			// OpenSSH lets one other criterion stand before it.
			rest, _, _ := nextWord(s)
			if len(list) > 1 || rest != "" && rest[0] != '#' {
				return nil, errors.New("all stands alone")
			}
			return append(list, c), nil
		case "canonical", "final":
		case "host", "originalhost", "user", "localuser", "exec", "localnetwork", "tagged", "version", "sessiontype", "command":
			if c.value, s, err = nextWord(s); err != nil {
				return nil, err
			}
			if c.value == "" || c.value[0] == '#' {
				return nil, fmt.Errorf("%s: the value is missing", c.what)
			}
			switch c.what {
			case "localnetwork", "tagged", "version", "sessiontype", "command":
				return nil, fmt.Errorf("%s is not supported here", c.what)
			}
		default:
			return nil, fmt.Errorf("unknown criterion %q; there are all, canonical, exec, final, host, localuser, originalhost and user", c.what)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("a criterion is missing")
	}
	return list, nil
}

// matches reports whether a Match line is about the host that is looked up. What is known of the host is what stands
// further up.
func (l *lookup) matches(criteria []criterion) (bool, error) {
	result := true
	for _, c := range criteria {
		var r bool
		switch c.what {
		case "all":
			r = true
		case "canonical", "final":
			r = l.final
		case "host":
			r = matchHost(l.hostName(), c.value)
		case "originalhost":
			r = matchHost(l.query.Host, c.value)
		case "user":
			r = matchList(l.user(), c.value)
		case "localuser":
			r = matchList(l.config.local.User, c.value)
		case "exec":
			if !result {
				continue // it is not run then
			}
			cmd, err := l.expandCommand(c.value, fileTokens)
			if err != nil {
				return false, fmt.Errorf("%s: match exec: %w", c.at, err)
			}
			if r, err = l.config.exec(l.ctx, cmd); err != nil {
				return false, fmt.Errorf("%s: match exec %q: %w", c.at, cmd, err)
			}
		}
		if r == c.negate {
			result = false
		}
	}
	return result, nil
}

// execTimeout is how long a command of Match exec may take.
const execTimeout = 10 * time.Second

// execAnswer is what a command said, which is asked once.
type execAnswer struct {
	yes bool
	err error
}

// exec runs a command as OpenSSH does, with the user's shell. The same command is run once for all hosts.
func (c *Config) exec(ctx context.Context, text string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, known := c.answers[text]; known {
		return a.yes, a.err
	}
	yes, err := runExec(ctx, text)
	if ctx.Err() == nil { // else the next one asks again
		c.answers[text] = execAnswer{yes, err}
	}
	return yes, err
}

func runExec(ctx context.Context, text string) (bool, error) {
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	ctx, cancel := command.WithTimeout(ctx, execTimeout)
	defer cancel()
	cmd := command.New(ctx, shell, "-c", text)
	cmd.Stderr = os.Stderr
	err := command.Do(ctx, cmd)
	if err == nil {
		return true, nil
	}
	if cmd.ProcessState != nil && cmd.ProcessState.Exited() && ctx.Err() == nil {
		return false, nil
	}
	return false, err
}
