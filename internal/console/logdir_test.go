package console

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// However often initiators are killed and whichever events are missing or come twice, the file is the run's own log.
func TestLogDirHasAllOutputOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		own, dir := t.TempDir(), filepath.Join(t.TempDir(), "logs")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			rt.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "h1.log"), []byte("of an earlier run"), 0o644); err != nil {
			rt.Fatal(err)
		}
		var l *LogDir
		start := func() {
			var err error
			if l, err = NewLogDir(dir, func(string) (string, error) { return own, nil }); err != nil {
				rt.Fatal(err)
			}
			if err := l.Print(messages.RunStarted{Run: "r", Hosts: []string{"h1", "h2"}}); err != nil {
				rt.Fatal(err)
			}
		}
		start()
		want := ""
		for range rapid.IntRange(1, 8).Draw(rt, "writes") {
			piece := rapid.StringN(1, 20, -1).Draw(rt, "piece")
			want += piece
			if err := os.WriteFile(filepath.Join(own, "h1.log"), []byte(want), 0o600); err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(0, 2).Draw(rt, "told") {
				if err := l.Print(out("h1", piece)); err != nil {
					rt.Fatal(err)
				}
			}
			if rapid.Bool().Draw(rt, "killed") {
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				start()
			}
		}
		if err := l.Print(messages.HostFinished{Result: messages.Result{Host: "h1"}}); err != nil {
			rt.Fatal(err)
		}
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
		for host, text := range map[string]string{"h1": want, "h2": ""} {
			path := filepath.Join(dir, host+".log")
			got, err := os.ReadFile(path)
			if err != nil || string(got) != text {
				rt.Fatalf("%s: got %q, want %q, %v", host, got, text, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				rt.Fatalf("%v, %v", info.Mode(), err)
			}
		}
	})
}

// A link in a directory of others must not lead anywhere.
func TestLogDirIsNotLeft(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, "h1.log")); err != nil {
		t.Fatal(err)
	}
	l, err := NewLogDir(dir, func(string) (string, error) { return dir, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Print(messages.RunStarted{Hosts: []string{"h1"}}); err == nil {
		t.Error("followed a link")
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewLogDir(file, nil); err == nil {
		t.Error("a file is no directory")
	}
}

// BenchmarkLogDir10000 begins the files of 10,000 hosts that have written nothing yet, which the first event waits for.
func BenchmarkLogDir10000(b *testing.B) {
	hosts := make([]string, 10_000)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%d", i)
	}
	l, err := NewLogDir(b.TempDir(), func(string) (string, error) { return b.TempDir(), nil })
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		if err := l.Print(messages.RunStarted{Hosts: hosts}); err != nil {
			b.Fatal(err)
		}
	}
}
