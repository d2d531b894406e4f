package graph

import (
	"path"
	"strings"
)

func readExec(p *parser, r *Resource) (map[string]field, func(given)) {
	e := &Exec{}
	r.Spec = e
	var state string
	fields := map[string]field{
		"cmd":        p.text(&e.Cmd, "cmd"),
		"args":       p.texts(&e.Args, "args", nil),
		"shell":      p.text(&e.Shell, "shell"),
		"cwd":        p.text(&e.Cwd, "cwd"),
		"env":        p.environment(&e.Env, "env"),
		"user":       p.word(&e.User, "user"),
		"group":      p.word(&e.Group, "group"),
		"timeout":    p.seconds("timeout", 0, &e.Timeout),
		"ifcmd":      p.text(&e.IfCmd, "ifcmd"),
		"ifshell":    p.text(&e.IfShell, "ifshell"),
		"watchcmd":   p.text(&e.WatchCmd, "watchcmd"),
		"watchshell": p.text(&e.WatchShell, "watchshell"),
		"pollint":    p.seconds("pollint", 0, &e.PollInt),
		"state":      p.text(&state, "state"),
	}
	return fields, func(at given) {
		if e.Cmd == "" {
			e.Cmd = r.ID.Name
		}
		if state != "" && state != "present" {
			p.fail(at["state"], "state: an exec can only be present")
		}
		if strings.TrimSpace(e.Cmd) == "" {
			p.fail(at.at("cmd"), "cmd: only white space")
		}
		for key, line := range map[string]string{"ifcmd": e.IfCmd, "watchcmd": e.WatchCmd} {
			if line != "" && strings.TrimSpace(line) == "" {
				p.fail(at[key], "%s: only white space", key)
			}
		}
		if len(e.Args) > 0 && (e.Shell != "" || len(strings.Fields(e.Cmd)) > 1) {
			p.fail(at["args"], "args: only without a shell, and with a cmd of one word")
		}
		if e.Cwd != "" && !path.IsAbs(e.Cwd) {
			p.fail(at["cwd"], "cwd: %q is not absolute", e.Cwd)
		}
	}
}
