package console

import (
	"errors"
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
		most := rapid.IntRange(1, 2).Draw(rt, "open")
		start := func() {
			var err error
			if l, err = NewLogDir(dir, func(string) (string, error) { return own, nil }); err != nil {
				rt.Fatal(err)
			}
			l.files = newLogFiles(most)
			if err := l.Print(messages.RunStarted{Run: "r", Hosts: []string{"h1", "h2"}}); err != nil {
				rt.Fatal(err)
			}
		}
		start()
		want := map[string]string{"h1": "", "h2": ""}
		for range rapid.IntRange(1, 8).Draw(rt, "writes") {
			host, piece := rapid.SampledFrom([]string{"h1", "h2"}).Draw(rt, "host"), rapid.StringN(1, 20, -1).Draw(rt, "piece")
			want[host] += piece
			if err := os.WriteFile(filepath.Join(own, host+".log"), []byte(want[host]), 0o600); err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(0, 2).Draw(rt, "told") {
				if err := l.Print(out(host, piece)); err != nil {
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
		for host := range want {
			if err := l.Print(messages.HostFinished{Result: messages.Result{Host: host}}); err != nil {
				rt.Fatal(err)
			}
		}
		if n := l.files.order.Len(); n != 0 {
			rt.Errorf("files of %d hosts are open after their end", n)
		}
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
		for host, text := range want {
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

// TestLogDirKeepsFewFilesOpen has very many hosts talk in turn: as many descriptors as hosts would be too many.
func TestLogDirKeepsFewFilesOpen(t *testing.T) {
	const rounds = 3
	own, dir := t.TempDir(), t.TempDir()
	hosts := manyNames(3 * mostOpen)
	l, err := NewLogDir(dir, func(string) (string, error) { return own, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Print(messages.RunStarted{Hosts: hosts}); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		for _, host := range hosts {
			say(t, l, own, host, fmt.Sprintf("%s says %d\n", host, round))
			if n := l.files.order.Len(); n > mostOpen || n != len(l.files.byHost) {
				t.Fatalf("the files of %d hosts are open", n)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		want, err := os.ReadFile(filepath.Join(own, host+".log"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, host+".log"))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: got %q, want %q, %v", host, got, want, err)
		}
	}
}

func manyNames(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%d", i)
	}
	return hosts
}

// say adds to the run's own log of a host and prints that it did.
func say(tb testing.TB, l *LogDir, own, host, text string) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(own, host+".log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(f.Close(), l.Print(out(host, text))); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkLogDirLine is one line of a host that says many.
func BenchmarkLogDirLine(b *testing.B) {
	own := b.TempDir()
	l, err := NewLogDir(b.TempDir(), func(string) (string, error) { return own, nil })
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if err := l.Print(messages.RunStarted{Hosts: []string{"h1"}}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		say(b, l, own, "h1", "a line\n")
	}
}

// BenchmarkLogDir10000 begins the files of 10,000 hosts that have written nothing yet, which the first event waits for.
func BenchmarkLogDir10000(b *testing.B) {
	hosts := manyNames(10_000)
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
