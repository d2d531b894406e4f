package shimbin

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// newTestSet has a shim for linux/amd64 and a damaged one for linux/arm64, and says it runs on plan9/mips from a
// directory of its own, so that no result depends on the machine under the test.
func newTestSet(t *testing.T) (*Programs, string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	exe := filepath.Join(t.TempDir(), "bin", "mgmt-remote")
	if err := os.MkdirAll(filepath.Dir(exe), 0o700); err != nil {
		t.Fatal(err)
	}
	good := pack(t, "the shim")
	s := &Programs{
		files: fstest.MapFS{
			"README":              {Data: []byte("not a shim")},
			"shim-linux-amd64.gz": {Data: good},
			"shim-linux-arm64.gz": {Data: good[:len(good)-6]},
		},
		goos: "plan9", goarch: "mips",
		executable: func() (string, error) { return exe, nil },
		isShim:     func() bool { return false },
		isEngine:   func() bool { return false },
		unpacked:   map[string]string{},
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, exe
}

func pack(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEmbeddedShimIsUnpackedOnceAndRemoved(t *testing.T) {
	s, _ := newTestSet(t)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		paths []string
	)
	for range 8 {
		wg.Go(func() {
			b, err := s.Shim("linux", "amd64")
			if err != nil {
				t.Error(err)
				return
			}
			if b.Name != "mgmt-remote-shim" || len(b.Args) != 0 {
				t.Errorf("got %+v", b)
			}
			mu.Lock()
			defer mu.Unlock()
			paths = append(paths, b.Path)
		})
	}
	wg.Wait()
	if len(slices.Compact(paths)) != 1 {
		t.Fatalf("unpacked more than once: %q", paths)
	}
	path := paths[0]
	if got, err := os.ReadFile(path); err != nil || string(got) != "the shim" {
		t.Fatalf("unpacked %q, %v", got, err)
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %o, want 700", p, info.Mode().Perm())
		}
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the directory is still there: %v", err)
	}
	again, err := s.Shim("linux", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(again.Path); err != nil {
		t.Fatalf("after Close: %v", err)
	}
}

func TestOurselvesStandInForTheShim(t *testing.T) {
	s, exe := newTestSet(t)
	if _, err := s.Shim("plan9", "mips"); fault.KindOf(err) != fault.Environment {
		t.Fatalf("a program that is not mgmt-remote stood in: %v", err)
	}
	s.isShim = func() bool { return true }
	b, err := s.Shim("plan9", "mips")
	if err != nil {
		t.Fatal(err)
	}
	if b.Path != exe || b.Name != "mgmt-remote" || !slices.Equal(b.Args, []string{"shim"}) {
		t.Fatalf("got %+v", b)
	}
	if _, err := s.Engine("plan9", "mips"); fault.KindOf(err) != fault.Environment {
		t.Fatalf("a program that is the shim alone stood in for the engine: %v", err)
	}
	s.isEngine = func() bool { return true }
	b, err = s.Engine("plan9", "mips")
	if err != nil {
		t.Fatal(err)
	}
	if b.Path != exe || b.Name != "mgmt-remote" || len(b.Args) != 0 {
		t.Fatalf("got %+v", b)
	}
}

func TestSelfOfAnotherPlatformLiesBesideUsOrInDist(t *testing.T) {
	s, exe := newTestSet(t)
	dist := filepath.Join(filepath.Dir(exe), "..", "dist", "mgmt-remote-linux-arm64")
	beside := filepath.Join(filepath.Dir(exe), "mgmt-remote-linux-arm64")
	if err := os.MkdirAll(filepath.Dir(dist), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dist, beside} { // beside comes second and wins
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := s.Engine("linux", "arm64")
		if err != nil {
			t.Fatal(err)
		}
		if b.Path != path || b.Name != "mgmt-remote" {
			t.Fatalf("got %+v, want %s", b, path)
		}
	}
}

func TestFaultsSayWhatWasLookedFor(t *testing.T) {
	s, exe := newTestSet(t)
	s.isEngine = func() bool { return true }
	_, missing := s.Shim("freebsd", "amd64")
	_, broken := s.Shim("linux", "arm64")
	_, self := s.Engine("linux", "arm64")
	_, evil := s.Shim("../linux", "amd64")
	_, empty := s.Engine("", "amd64")
	for _, c := range []struct {
		err  error
		want []string
	}{
		{missing, []string{"freebsd/amd64", "linux/amd64, linux/arm64", "make build"}},
		{broken, []string{"shim-linux-arm64", "damaged", "make build"}},
		{self, []string{"linux/arm64", filepath.Join(filepath.Dir(exe), "mgmt-remote-linux-arm64"), "dist", "GOOS=linux"}},
		{evil, []string{"no platform"}},
		{empty, []string{"no platform"}},
	} {
		if fault.KindOf(c.err) != fault.Environment {
			t.Errorf("%v has kind %v, want environment", c.err, fault.KindOf(c.err))
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(c.err.Error(), want) {
				t.Errorf("%q does not say %q", c.err, want)
			}
		}
	}
}

func TestSelfRefusesADirectory(t *testing.T) {
	s, exe := newTestSet(t)
	if err := os.Mkdir(filepath.Join(filepath.Dir(exe), "mgmt-remote-linux-arm64"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Engine("linux", "arm64"); fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "regular") {
		t.Fatalf("got %v", err)
	}
}

// A test binary is not mgmt-remote, so the package's own state must not offer it as one.
func TestATestBinaryIsNotTakenForMgmtRemote(t *testing.T) {
	if New().isShim() {
		t.Fatal("the test binary is taken for mgmt-remote")
	}
}

func TestEmbeddedEngineComesFirst(t *testing.T) {
	s, _ := newTestSet(t)
	s.isEngine = func() bool { return true }
	s.files.(fstest.MapFS)["engine-plan9-mips.gz"] = &fstest.MapFile{Data: pack(t, "the engine")}
	b, err := s.Engine("plan9", "mips")
	if err != nil || b.Name != "mgmt-remote" || len(b.Args) != 0 {
		t.Fatalf("got %+v, %v", b, err)
	}
	if got, err := os.ReadFile(b.Path); err != nil || string(got) != "the engine" {
		t.Fatalf("unpacked %q, %v", got, err)
	}
}
