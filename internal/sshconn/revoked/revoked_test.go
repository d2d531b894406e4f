package revoked

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T, private any) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(private)
	must(t, err)
	return s
}

// subject is a key or certificate, in a file for ssh-keygen.
type subject struct {
	name string
	key  ssh.PublicKey
}

// fixture has keys of each type, and certificates of two authorities.
type fixture struct {
	dir      string
	subjects []subject
}

var serials = []uint64{0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 1000, 1001, 100_000, 1 << 63, math.MaxUint64 - 1, math.MaxUint64}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir()}
	var signers []ssh.Signer
	add := func(name string, private any) {
		s := newKey(t, private)
		signers = append(signers, s)
		f.add(t, name, s.PublicKey())
	}
	for _, name := range []string{"ca1", "ca2", "ed"} {
		_, private, err := ed25519.GenerateKey(crand.Reader)
		must(t, err)
		add(name, private)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	must(t, err)
	add("ecdsa", ec)
	r, err := rsa.GenerateKey(crand.Reader, 2048)
	must(t, err)
	add("rsa", r)
	for i, ca := range signers[:2] {
		for _, serial := range serials {
			for j, s := range signers[2:4] {
				cert := &ssh.Certificate{
					Key: s.PublicKey(), Serial: serial, KeyId: fmt.Sprint("id", serial%4), CertType: ssh.HostCert,
					ValidPrincipals: []string{"h"}, ValidBefore: ssh.CertTimeInfinity,
				}
				must(t, cert.SignCert(crand.Reader, ca))
				f.add(t, fmt.Sprintf("cert-%d-%d-%d", i+1, serial, j), cert)
			}
		}
	}
	return f
}

func (f *fixture) add(t *testing.T, name string, key ssh.PublicKey) {
	t.Helper()
	must(t, os.WriteFile(f.file(name), ssh.MarshalAuthorizedKey(key), 0o600))
	f.subjects = append(f.subjects, subject{name, key})
}

func (f *fixture) file(name string) string { return filepath.Join(f.dir, name+".pub") }

func keygen(args ...string) (string, error) {
	cmd := exec.Command("ssh-keygen", args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("ssh-keygen %s: %w: %s", strings.Join(args[:min(8, len(args))], " "), err, stderr.String())
	}
	return out.String(), err
}

// verdicts are what ssh-keygen says of all subjects.
func (f *fixture) verdicts(t *testing.T, list string) map[string]bool {
	t.Helper()
	args := []string{"-Q", "-f", list}
	for _, s := range f.subjects {
		args = append(args, f.file(s.name))
	}
	out, err := keygen(args...) // its exit status says whether some key is revoked
	revoked := map[string]bool{}
	for line := range strings.Lines(out) {
		file, verdict, _ := strings.Cut(strings.TrimSpace(line), ": ")
		revoked[strings.TrimSuffix(filepath.Base(file), ".pub")] = verdict == "REVOKED"
	}
	if len(revoked) != len(f.subjects) {
		t.Fatalf("openssh-client is needed, see make deps: %v\n%s", err, out)
	}
	return revoked
}

// compare holds what we say against what ssh-keygen says. It returns how many are revoked.
func (f *fixture) compare(t *testing.T, list string) (n int) {
	t.Helper()
	data, err := os.ReadFile(list)
	must(t, err)
	ours, err := Parse(data)
	must(t, err)
	for name, theirs := range f.verdicts(t, list) {
		for _, s := range f.subjects {
			if s.name != name {
				continue
			}
			if why := ours.Revokes(s.key); (why != "") != theirs {
				t.Errorf("%s: ssh-keygen says revoked %v, we say %q", name, theirs, why)
			}
		}
		if theirs {
			n++
		}
	}
	return n
}

// Each kind of entry that ssh-keygen -k makes means what it means to ssh-keygen.
func TestListsOfSSHKeygen(t *testing.T) {
	f := newFixture(t)
	all := len(f.subjects)
	perCA := len(serials) * 2
	sha256 := ssh.FingerprintSHA256(f.subjects[2].key)
	public := func(name string) string {
		data, err := os.ReadFile(f.file(name))
		must(t, err)
		return strings.TrimSpace(string(data))
	}
	for _, tc := range []struct {
		name, ca, spec string
		revoked        int
		why            string // of the first certificate of the first authority with serial 7
	}{
		{"nothing", "", "", 0, ""},
		{"a key", "", "key: " + public("rsa"), 1, ""},
		{"a key and the certificates for it", "", "key: " + public("ed"), 1 + 2*len(serials), "by its key"},
		{"sha1", "", "sha1: " + public("ecdsa"), 1 + 2*len(serials), ""},
		{"sha256", "", "sha256: " + public("ed"), 1 + 2*len(serials), "by its SHA256 fingerprint"},
		{"hash", "", "hash: " + sha256, 1 + 2*len(serials), "by its SHA256 fingerprint"},
		{"an authority", "", "key: " + public("ca1"), 1 + perCA, "its authority " + ssh.FingerprintSHA256(f.subjects[0].key) + " is, by its key"},
		{"a serial", "ca1", "serial: 7", 2, "by the certificate's serial number 7"},
		{"a range", "ca1", "serial: 1-1000", 20, "by the certificate's serial number 7"},
		{"the highest", "ca2", "serial: 18446744073709551614-18446744073709551615", 4, ""},
		{"a bitmap", "ca1", "serial: 1\nserial: 3\nserial: 5\nserial: 7\nserial: 9\nserial: 11\nserial: 64", 10, "by the certificate's serial number 7"},
		{"all", "ca2", "serial: 1-18446744073709551615", perCA - 2, ""},
		{"an id", "ca1", "id: id3", 8, `by the certificate's ID "id3"`}, // 3, 7, 63, max
		{"of any authority", "none", "serial: 7\nid: id2", 12, "by the certificate's serial number 7"},
		{"a certificate", "ca1", public("cert-1-7-0"), 2, "by the certificate's serial number 7"},
		{"a certificate without number", "ca1", public("cert-1-0-0"), 12, ""}, // by its ID
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			list, spec := filepath.Join(dir, "list"), filepath.Join(dir, "spec")
			must(t, os.WriteFile(spec, []byte(tc.spec+"\n"), 0o600))
			args := []string{"-q", "-k", "-f", list, "-z", "17"}
			switch tc.ca {
			case "":
			case "none":
				args = append(args, "-s", "none")
			default:
				args = append(args, "-s", f.file(tc.ca))
			}
			if _, err := keygen(append(args, spec)...); err != nil {
				t.Fatal(err)
			}
			if n := f.compare(t, list); n != tc.revoked {
				t.Errorf("%d of %d are revoked, want %d", n, all, tc.revoked)
			}
			data, err := os.ReadFile(list)
			must(t, err)
			ours, err := Parse(data)
			must(t, err)
			for _, s := range f.subjects {
				if s.name == "cert-1-7-0" && ours.Revokes(s.key) != tc.why {
					t.Errorf("%q, want %q", ours.Revokes(s.key), tc.why)
				}
			}
			// Whatever is missing at the end, it is no list; but where a section ends nothing tells that more of them are missing.
			ends := sectionEnds(data)
			for n := 1; n < len(data); n++ {
				if _, err := Parse(data[:n]); (err == nil) != slices.Contains(ends, n) {
					t.Errorf("%d of %d bytes: %v; sections end at %v", n, len(data), err, ends)
				}
			}
		})
	}
}

func sectionEnds(data []byte) (ends []int) {
	length := func(at int) int { return 4 + int(binary.BigEndian.Uint32(data[at:])) }
	at := len(magic) + 4 + 3*8
	at += length(at)
	at += length(at)
	for ends = append(ends, at); at < len(data); ends = append(ends, at) {
		at += 1 + length(at+1)
	}
	return ends
}

// So do lists of anything, made in several steps.
func TestRandomListsOfSSHKeygen(t *testing.T) {
	f := newFixture(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) // a failure tells the seed
	one := func(list []string) string { return list[random.IntN(len(list))] }
	line := func() string {
		switch random.IntN(6) {
		case 0:
			return fmt.Sprint("id: id", random.IntN(6))
		case 1, 2:
			return fmt.Sprint("serial: ", serials[1+random.IntN(len(serials)-1)])
		case 3:
			return fmt.Sprint("serial: ", 1+random.IntN(1100))
		case 4:
			from := random.IntN(len(serials) - 2)
			to := max(from, 1) + 1
			return fmt.Sprintf("serial: %d-%d", max(1, serials[from]), serials[to+random.IntN(len(serials)-to)])
		}
		data, err := os.ReadFile(f.file(one([]string{"ed", "ecdsa", "rsa", "cert-1-2-0", "cert-2-3-1"})))
		must(t, err)
		return one([]string{"key: ", "sha1: ", "sha256: "}) + string(bytes.TrimSpace(data))
	}
	list, spec := filepath.Join(f.dir, "list"), filepath.Join(f.dir, "spec")
	for range 25 {
		var update, texts []string
		for range 1 + random.IntN(3) {
			text := ""
			for range 1 + random.IntN(12) {
				text += line() + "\n"
			}
			must(t, os.WriteFile(spec, []byte(text), 0o600))
			args := append([]string{"-q", "-k", "-f", list, "-s", one([]string{f.file("ca1"), f.file("ca2"), "none"})}, update...)
			if _, err := keygen(append(args, spec)...); err != nil {
				t.Fatal(err, text)
			}
			update, texts = []string{"-u"}, append(texts, text)
		}
		if f.compare(t, list); t.Failed() {
			t.Fatalf("%q", texts)
		}
	}
}
