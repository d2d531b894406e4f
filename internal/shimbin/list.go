package shimbin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Embedded is one program that this executable has inside for hosts of a platform.
type Embedded struct {
	Kind   string // "shim" or "engine"
	OS     string // in Go's words
	Arch   string
	SHA256 string // of the program as hosts have it in their cache
}

// Embedded lists what is embedded, by name. All of it is unpacked, in memory, to be hashed: that takes a moment.
func (s *Programs) Embedded() ([]Embedded, error) {
	names, err := fs.Glob(s.files, "*-*-*.gz")
	if err != nil {
		return nil, err // the pattern is wrong
	}
	list := make([]Embedded, len(names))
	var group errgroup.Group
	for i, file := range names {
		group.Go(func() error {
			name := strings.TrimSuffix(file, ".gz")
			words := strings.SplitN(name, "-", 3)
			sum, err := s.sum(file)
			if err != nil {
				return damaged(name, err)
			}
			list[i] = Embedded{Kind: words[0], OS: words[1], Arch: words[2], SHA256: sum}
			return nil
		})
	}
	return list, group.Wait()
}

// sum hashes what is in an embedded file.
func (s *Programs) sum(file string) (string, error) {
	packed, err := fs.ReadFile(s.files, file)
	if err != nil {
		return "", err
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, reader); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
