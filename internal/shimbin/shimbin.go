// Package shimbin hands out the programs that are copied to hosts: the small shim, and the engine for the graph
// payload, which is mgmt-remote without what drives other machines (go build -tags engine).
//
// `make build` compiles the shim for every supported platform, and the engine for some, and embeds the compressed
// results here. A plain `go build` embeds none; then the running mgmt-remote stands in for both on hosts of its own
// platform, because it has both inside. A platform that is served by neither is a fault of kind Environment that
// names what was looked for.
//
// Embedded programs are unpacked when first asked for, once per platform, into a private directory that Close removes. Nothing here talks to a host, and nothing is ever downloaded.
package shimbin

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

const (
	shimName = "mgmt-remote-shim"
	selfName = "mgmt-remote"

	// mainPackage is what the build information of a real mgmt-remote says of itself, however it was built.
	mainPackage = "github.com/mgmt-remote/mgmt-remote/cmd/mgmt-remote"

	opShim   = "find the shim"
	opEngine = "find the engine"
)

//go:embed all:bin
var embedded embed.FS

// Binary is a program that can be copied to a host and run there.
type Binary struct {
	Path string   // a file on this machine; it stays until Close
	Args []string // what comes before the program's other arguments: nothing, or "shim" where mgmt-remote stands in
	Name string   // what the file is called on the host
}

// Declare says that the running executable does what mgmt-remote does when it is started with the argument "shim"
// or "apply". The real program is recognised without it; a test binary calls it when it passes those arguments on.
func Declare() {
	declaredShim.Store(true)
	declaredEngine.Store(true)
}

// DeclareShim says the same of "shim" alone.
func DeclareShim() { declaredShim.Store(true) }

var declaredShim, declaredEngine atomic.Bool

// Programs hands out the programs of this executable. It is safe for concurrent use. Close it.
type Programs struct {
	files      fs.FS // shim-GOOS-GOARCH.gz and engine-GOOS-GOARCH.gz
	goos       string
	goarch     string
	executable func() (string, error)
	isShim     func() bool // this executable acts as the shim when told to
	isEngine   func() bool // and as the engine

	mu       sync.Mutex // also held while unpacking: the second caller needs the result of the first
	dir      string     // "" until something was unpacked
	unpacked map[string]string
}

// New looks at what is embedded; it unpacks nothing.
func New() *Programs {
	files, err := fs.Sub(embedded, "bin")
	if err != nil {
		panic(err) // only an invalid path makes Sub fail
	}
	info, ok := debug.ReadBuildInfo()
	real := ok && info.Path == mainPackage
	return &Programs{
		files:      files,
		goos:       runtime.GOOS,
		goarch:     runtime.GOARCH,
		executable: os.Executable,
		isShim:     func() bool { return real || declaredShim.Load() },
		isEngine:   func() bool { return real || declaredEngine.Load() },
		unpacked:   map[string]string{},
	}
}

// Shim returns the shim for a platform, given in Go's words ("linux", "arm64"). The error is a fault of kind
// Environment where no shim fits.
func (s *Programs) Shim(goos, goarch string) (Binary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkPlatform(opShim, goos, goarch); err != nil {
		return Binary{}, err
	}

	name := "shim-" + goos + "-" + goarch
	path, err := s.unpack(name)
	switch {
	case err == nil:
		return Binary{Path: path, Name: shimName}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return Binary{}, fault.Wrap(fault.Environment, opShim, err)
	}

	if s.isShim() && goos == s.goos && goarch == s.goarch {
		exe, err := s.executable()
		if err != nil {
			return Binary{}, fault.Wrap(fault.Environment, opShim, err)
		}
		return Binary{Path: exe, Args: []string{"shim"}, Name: selfName}, nil
	}
	return Binary{}, fault.New(fault.Environment, opShim,
		"this mgmt-remote (%s/%s) holds no shim for %s/%s; it has %s", s.goos, s.goarch, goos, goarch, s.platforms()).
		WithRemedy("build mgmt-remote with `make build`, which embeds a shim for each supported platform")
}

// Engine returns a mgmt-remote that can apply a definition on a platform: the embedded engine, else the running
// executable where the platform is ours, else a file mgmt-remote-GOOS-GOARCH beside it or in ../dist. The error is a
// fault of kind Environment where there is none.
func (s *Programs) Engine(goos, goarch string) (Binary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkPlatform(opEngine, goos, goarch); err != nil {
		return Binary{}, err
	}
	path, err := s.unpack("engine-" + goos + "-" + goarch)
	switch {
	case err == nil:
		return Binary{Path: path, Name: selfName}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return Binary{}, fault.Wrap(fault.Environment, opEngine, err)
	}
	exe, err := s.executable()
	if err != nil {
		return Binary{}, fault.Wrap(fault.Environment, opEngine, err)
	}
	if s.isEngine() && goos == s.goos && goarch == s.goarch {
		return Binary{Path: exe, Name: selfName}, nil
	}

	file := selfName + "-" + goos + "-" + goarch
	near := filepath.Dir(exe)
	looked := []string{filepath.Join(near, file), filepath.Join(near, "..", "dist", file)}
	for _, path := range looked {
		info, err := os.Stat(path)
		switch {
		case err == nil && info.Mode().IsRegular():
			return Binary{Path: path, Name: selfName}, nil
		case err == nil:
			return Binary{}, fault.New(fault.Environment, opEngine, "%s is no regular file", path)
		case !errors.Is(err, fs.ErrNotExist):
			return Binary{}, fault.Wrap(fault.Environment, opEngine, err)
		}
	}
	return Binary{}, fault.New(fault.Environment, opEngine,
		"the host is %s/%s and there is no %s", goos, goarch, strings.Join(looked, " and no ")).
		WithRemedy("build it with `CGO_ENABLED=0 GOOS=%s GOARCH=%s go build -tags engine -o %s ./cmd/mgmt-remote`", goos, goarch, looked[0])
}

// unpack writes the embedded program called name to the private directory and returns its path. The error is
// fs.ErrNotExist where none is embedded. The caller holds s.mu.
func (s *Programs) unpack(name string) (string, error) {
	if path, ok := s.unpacked[name]; ok {
		return path, nil
	}
	packed, err := fs.ReadFile(s.files, name+".gz")
	if err != nil {
		return "", err
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", damaged(name, err)
	}
	program, err := io.ReadAll(reader)
	if err != nil {
		return "", damaged(name, err)
	}

	if s.dir == "" {
		dir, err := os.MkdirTemp("", "mgmt-remote-") // 0700 by its contract
		if err != nil {
			return "", err
		}
		s.dir = dir
	}
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, program, 0o700); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	s.unpacked[name] = path
	return path, nil
}

// Close removes what was unpacked. Paths handed out before are invalid afterwards; what is asked for later is unpacked
// again.
func (s *Programs) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := s.dir
	s.dir = ""
	clear(s.unpacked)
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}

// platforms lists what is embedded, for an error message.
func (s *Programs) platforms() string {
	names, err := fs.Glob(s.files, "shim-*.gz")
	if err != nil || len(names) == 0 {
		return "none"
	}
	for i, name := range names {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "shim-"), ".gz")
		names[i] = strings.Replace(name, "-", "/", 1)
	}
	return strings.Join(names, ", ")
}

// checkPlatform keeps words that came from a host out of file names.
func checkPlatform(op, goos, goarch string) error {
	for _, word := range []string{goos, goarch} {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return fault.New(fault.Environment, op, "%q/%q is no platform", goos, goarch)
		}
	}
	return nil
}

func damaged(name string, err error) error {
	return fault.New(fault.Environment, "unpack", "the embedded %s is damaged: %w", name, err).
		WithRemedy("build mgmt-remote again with `make build`")
}
