package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// People press TAB in shells: what the scripts and the program make of that shows in real ones only. What is typed in full has
// no marker in it, so a marker that appears is one that the shell has completed.
func TestShellsComplete(t *testing.T) {
	for shell, script := range map[string]string{
		"bash": ". /usr/share/bash-completion/bash_completion; . <(mgmt-remote completion bash); PS1='rea''dy> '\n",
		"zsh":  "autoload -U compinit; compinit -u -D; . <(mgmt-remote completion zsh); PS1='rea''dy> '\n",
	} {
		t.Run(shell, func(t *testing.T) {
			home := completionHome(t)
			args := map[string][]string{"bash": {"--norc", "--noprofile", "-i"}, "zsh": {"-f", "-i"}}[shell]
			cmd := exec.Command(shell, args...)
			cmd.Dir = home
			s := startCommandOnTerminal(t, cmd, "HOME="+home, "PS1=first> ", "INPUTRC=/dev/null")
			s.types(script)
			s.sees("ready> ")
			for _, line := range [][2]string{
				{"mgmt-remote ho", "sts"},
				{"mgmt-remote run --host-key acc", "ept-new"},
				{"mgmt-remote run -H quuxho", "st1"},
				{"mgmt-remote run -H root@quuxho", "st1"},
				{"mgmt-remote run -H quuxport:22", "22"},
				{"mgmt-remote run -I fleet.yaml -H from", "file"},
			} {
				s.types("\x15" + line[0] + "\t")
				s.sees(line[0])
				s.sees(line[1])
			}
			s.types("\x15exit\n")
		})
	}
	t.Run("fish", func(t *testing.T) {
		home := completionHome(t)
		for line, want := range map[string]string{
			"mgmt-remote ru":                           "run\tRun a graph",
			"mgmt-remote run --host-key acc":           "accept-new\t",
			"mgmt-remote run -H root@quuxho":           "root@quuxhost1",
			"mgmt-remote run -I fleet.yaml -H fromfil": "fromfile",
		} {
			cmd := exec.Command("fish", "--no-config", "-c", "mgmt-remote completion fish | source; complete -C '"+line+"'")
			cmd.Env = append(os.Environ(), "HOME="+home)
			cmd.Dir = home
			out, err := cmd.CombinedOutput()
			if err != nil || len(out) < len(want) || string(out[:len(want)]) != want {
				t.Errorf("%s: %v %s", line, err, out)
			}
		}
	})
}

// completionHome is a home in which ssh knows hosts, and an inventory.
func completionHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	for name, text := range map[string]string{
		".ssh/known_hosts": "quuxhost1 ssh-ed25519 AAAA\n|1|abc=|def= ssh-ed25519 AAAA\n[quuxport]:2222 ssh-ed25519 AAAA\n",
		".ssh/config":      "Host *.quux quuxconf\n",
		"fleet.yaml":       "hosts: {fromfile: {}}\n",
	} {
		file := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return home
}
