package mgmt

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"strings"
)

// Platform says what a program is built for, in Go's words. The zero value is "not known": a script, or a format that
// isn't looked into.
type Platform struct{ OS, Arch string }

// String returns linux/amd64.
func (p Platform) String() string { return p.OS + "/" + p.Arch }

// Runs reports whether a program for p can run on a machine of that platform, as far as p is known.
func (p Platform) Runs(os, arch string) bool {
	return p == Platform{} || p == Platform{os, arch}
}

// archOf maps ELF's machines (elf.h, e_machine) to Go's words. Where a machine has several, its own name is what remains.
var archOf = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_386: "386", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm",
	elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_LOONGARCH: "loong64",
}

// PlatformOf reads the ELF header of a program. Programs of Linux say nothing about their system there (EI_OSABI is 0),
// those of the BSDs do. The error is of opening or reading the file.
func PlatformOf(path string) (Platform, error) {
	f, err := os.Open(path)
	if err != nil {
		return Platform{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	return platformOf(f)
}

func platformOf(r io.ReaderAt) (Platform, error) {
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := r.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return Platform{}, err
	}
	if !bytes.Equal(magic, []byte(elf.ELFMAG)) {
		return Platform{}, nil
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return Platform{}, err
	}
	p := Platform{OS: "linux", Arch: archOf[f.Machine]}
	switch f.OSABI {
	case elf.ELFOSABI_FREEBSD:
		p.OS = "freebsd"
	case elf.ELFOSABI_OPENBSD:
		p.OS = "openbsd"
	case elf.ELFOSABI_NETBSD:
		p.OS = "netbsd"
	}
	if p.Arch == "" {
		p.Arch = strings.ToLower(strings.TrimPrefix(f.Machine.String(), "EM_"))
	}
	return p, nil
}
