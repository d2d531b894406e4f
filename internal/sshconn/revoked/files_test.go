package revoked

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

// A file of lines revokes the keys in it, certificates for them, and what they have signed.
func TestLines(t *testing.T) {
	f := newFixture(t)
	byName := map[string]ssh.PublicKey{}
	for _, s := range f.subjects {
		byName[s.name] = s.key
	}
	for _, tc := range []struct {
		name, text string
		want       map[string]string
	}{
		{"empty", "", map[string]string{"ed": "", "cert-1-1-0": ""}},
		{"comments", "# " + line(byName["ed"]) + "\n\n \t# x\r\n  " + line(byName["rsa"]) + " lost in 2019\r\n", map[string]string{"ed": "", "rsa": "in line 4"}},
		{"without newline", line(byName["ed"]), map[string]string{"ed": "in line 1", "ecdsa": "", "cert-1-1-0": "in line 1", "cert-1-1-1": ""}},
		{"authority", "\n" + line(byName["ca2"]), map[string]string{"ca2": "in line 2", "cert-1-1-0": "", "cert-2-1-1": "its authority " + ssh.FingerprintSHA256(byName["ca2"]) + " is, in line 2"}},
		{"certificate", line(byName["cert-1-7-1"]), map[string]string{"ecdsa": "in line 1", "cert-2-1-1": "in line 1", "ed": ""}},
	} {
		list, err := Parse([]byte(tc.text))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		for name, want := range tc.want {
			if got := list.Revokes(byName[name]); got != want {
				t.Errorf("%s: %s is revoked %q, want %q", tc.name, name, got, want)
			}
		}
	}
	good := line(byName["ed"])
	kind, blob, _ := strings.Cut(good, " ")
	for _, bad := range []string{
		"ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa " + blob, kind + " " + blob[:20], `command="x" ` + good, "@revoked * " + good, "h.example " + good, "\x00",
	} {
		if _, err := Parse([]byte(good + "\n" + bad + "\n")); err == nil || !strings.Contains(err.Error(), "line 2: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What nobody can make sense of as a whole is refused, and not read in part.
func TestDamagedLists(t *testing.T) {
	text := func(parts ...any) (b []byte) {
		for _, p := range parts {
			switch p := p.(type) {
			case string:
				b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
			case int: // a number of one byte
				b = append(b, byte(p))
			case uint64:
				b = binary.BigEndian.AppendUint64(b, p)
			}
		}
		return b
	}
	header := append(binary.BigEndian.AppendUint32([]byte(magic), 1), text(uint64(1), uint64(2), uint64(3), "reserved", "comment")...)
	if _, err := Parse(header); err != nil {
		t.Fatal(err)
	}
	certs := func(kind int, body ...any) []byte {
		return text(sectionCertificates, string(append(text("", ""), text(kind, string(text(body...)))...)))
	}
	for name, tc := range map[string]struct {
		section []byte
		want    string // "" = taken
	}{
		"extension":               {text(sectionExtension, string(text("later@example", 0, "x"))), ""},
		"needed extension":        {text(sectionExtension, string(text("later@example", 1, "x"))), `needs the extension "later@example"`},
		"extension of a section":  {certs(certExtension, "later@example", 0, "x"), ""},
		"needed, of a section":    {certs(certExtension, "later@example", 1, "x"), `needs the extension "later@example"`},
		"extension and more":      {text(sectionExtension, string(text("later@example", 0, "x", 1))), "damaged"},
		"signature":               {text(sectionSignature, "key", "signature"), "signed"},
		"section of the future":   {text(9, ""), "unknown type 9"},
		"certificates, the same":  {certs(0x50), "unknown type 80"},
		"sha1":                    {text(sectionSHA1, string(text(strings.Repeat("x", 20)))), ""},
		"sha1 of 21 bytes":        {text(sectionSHA1, string(text(strings.Repeat("x", 21)))), "damaged"},
		"sha256 of 20 bytes":      {text(sectionSHA256, string(text(strings.Repeat("x", 20)))), "damaged"},
		"serial 0":                {certs(certSerials, uint64(0)), "damaged"},
		"half a serial":           {certs(certSerials, uint64(1), 5), "damaged"},
		"range backwards":         {certs(certRange, uint64(2), uint64(1)), "damaged"},
		"range from 0":            {certs(certRange, uint64(0), uint64(1)), "damaged"},
		"range and more":          {certs(certRange, uint64(1), uint64(2), 1), "damaged"},
		"bitmap":                  {certs(certBitmap, uint64(0), "\x02"), ""},
		"empty bitmap":            {certs(certBitmap, uint64(5), "\x00"), ""},
		"bitmap with 0":           {certs(certBitmap, uint64(0), "\x03"), "damaged"},
		"negative bitmap":         {certs(certBitmap, uint64(1), "\x83"), "damaged"},
		"bitmap past the highest": {certs(certBitmap, ^uint64(0), "\x03"), "damaged"},
		"authority that is none":  {text(sectionCertificates, string(text("x", ""))), "can't be read"},
	} {
		_, err := Parse(append(bytes.Clone(header), tc.section...))
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	other := bytes.Clone(header)
	other[len(magic)+3] = 2
	if _, err := Parse(other); err == nil || !strings.Contains(err.Error(), "version 2 of the format") {
		t.Error(err)
	}
}

// A file is read once, and again when it has changed. One that can't be read is an error each time, and right as soon as it can be.
func TestFiles(t *testing.T) {
	f := newFixture(t)
	ed, rsa := f.subjects[2].key, f.subjects[4].key
	var files Files
	name := filepath.Join(t.TempDir(), "revoked")
	check := func(key ssh.PublicKey, want, wantErr string) {
		t.Helper()
		why, err := files.Check(name, key)
		if why != want || (err == nil) != (wantErr == "") || err != nil && (!strings.Contains(err.Error(), wantErr) || !strings.Contains(err.Error(), name)) {
			t.Errorf("%q, %v; want %q, %q", why, err, want, wantErr)
		}
	}
	check(ed, "", "no such file")
	must(t, os.WriteFile(name, []byte(line(ed)), 0o600))
	check(ed, "in line 1", "")
	check(rsa, "", "")
	one := files.known[name].list
	check(ed, "in line 1", "")
	if files.known[name].list != one {
		t.Error("it was read again without a reason")
	}
	must(t, os.WriteFile(name, []byte("# changed\n"+line(rsa)+"\n"), 0o600))
	check(ed, "", "")
	check(rsa, "in line 2", "")
	must(t, os.WriteFile(name, []byte("# changed\nrubbish"), 0o600))
	check(rsa, "", "line 2: ")
	check(rsa, "", "line 2: ")
	must(t, os.Remove(name))
	check(rsa, "", "no such file")
	must(t, os.Mkdir(name, 0o700))
	check(rsa, "", "is no file")
	if why, err := files.Check(os.DevNull, ed); why != "" || err != nil {
		t.Error(why, err)
	}
	// The same size at the same time, but another file.
	must(t, os.Remove(name))
	must(t, os.WriteFile(name, []byte(line(ed)), 0o600))
	check(ed, "in line 1", "")
	info, err := os.Stat(name)
	must(t, err)
	must(t, os.WriteFile(name+".new", bytes.Repeat([]byte("\n"), int(info.Size())), 0o600))
	must(t, os.Chtimes(name+".new", time.Time{}, info.ModTime()))
	must(t, os.Rename(name+".new", name))
	check(ed, "", "")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { check(ed, "", "") })
	}
	all.Wait()
}

// Whatever a file has in it, reading it ends, and a list that has come out of it can be asked.
func FuzzParse(f *testing.F) {
	f.Add([]byte(magic))
	f.Add(append([]byte(magic), bytes.Repeat([]byte{0, 0, 0, 1, 0x22}, 40)...))
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0b5PzOwYq3vQzv4sMZfOa8q0RwyH1d1UQ1j6bXwJ7C x\n# y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Parse(data)
		if err != nil {
			return
		}
		for _, c := range list.certs {
			for _, s := range c.serials {
				if s.bits == nil && (!c.has(s.lo) || !c.has(s.hi)) || s.bits != nil && !c.has(s.hi) {
					t.Fatalf("%+v is not found", s)
				}
			}
			c.has(0)
		}
	})
}

// Ten thousand certificates against a list of a million serial numbers, of which each but one in a hundred is by itself.
func BenchmarkTenThousandHosts(b *testing.B) {
	c := &certificates{}
	for i := range uint64(1_000_000) {
		if i%100 == 0 {
			c.bitmap(1+i*1000, []byte{0x55, 0x55, 0x55, 0x55, 0x55, 0x55})
			continue
		}
		c.add(1+i*1000, 1+i*1000, nil)
	}
	c.sort()
	name := filepath.Join(b.TempDir(), "revoked")
	if err := os.WriteFile(name, []byte("# nothing\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"), make([]byte, 32)...))
	if err != nil {
		b.Fatal(err)
	}
	var files Files
	files.known = map[string]*kept{}
	if _, err := files.Check(name, key); err != nil {
		b.Fatal(err)
	}
	files.known[name].list.certs[""] = c
	for b.Loop() {
		for range 10_000 {
			cert := &ssh.Certificate{Key: key, SignatureKey: key, Serial: rand.Uint64N(1_000_000_000)}
			if _, err := files.Check(name, cert); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(time.Millisecond), "ms/10k-hosts")
}
