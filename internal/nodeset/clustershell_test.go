package nodeset

import (
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// nodeset runs ClusterShell's command.
func nodeset(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("nodeset"); err != nil {
		t.Fatalf("%v: the package clustershell is needed, see make deps", err)
	}
	cmd := exec.Command("nodeset", args...)
	cmd.Env = append(cmd.Environ(), "HOME=/nonexistent", "CLUSTERSHELL_CFGDIR=/nonexistent")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// What ClusterShell reads means the same here, and what it refuses is refused here. One process for all: each
// expression is told from the others by what stands before its names.
func TestClusterShellReadsTheSame(t *testing.T) {
	for _, expr := range []string{
		"n[1-20,30]-[1-2].dc1", "n[001-010/3]", "n[1-3]!n2", "n[1-9]&n[2-4]", "n[1-9]^n[2-12]", "a,b,c", "n[1-2]n[3-4]", "n[0-10/2]",
		"n[1,01]", "n[1-5,3-7]", "n[09-11]", "[1-3]", "[1-3].x", "3", "1-3", "n1 , n2", "n[1-2]3", "n3[1-2]", "a!b,c", "a,b!b,b",
		"n[1-20]!n[2-3]&n[1-5]", "0[1-3]", "n[1-3],n04", "a[0-10/11]", "n[1 - 3]", "n[ 1-3 ]", "n[000-002]", "n[099-101]",
		"n[5-1]", "n[1-2/0]", "n[]", "n[1", "n1]", "n[1-010]", "n[01-1]", "n[1-2],,m", "!n1", "n1!", "n[1--3]", "n[1-3/-1]",
	} {
		theirs, theirErr := nodeset(t, "-e", "--", expr)
		ours, err := Parse(expr)
		if (err != nil) != (theirErr != nil) {
			t.Errorf("%q: ClusterShell says %v, we say %v", expr, theirErr, err)
			continue
		}
		want := strings.Fields(theirs)
		slices.Sort(want)
		slices.Sort(ours)
		if !slices.Equal(ours, want) {
			t.Errorf("%q: got %q, ClusterShell has %q", expr, ours, want)
		}
	}
}

// Where there is one best way to fold, it is ClusterShell's.
func TestClusterShellFoldsTheSame(t *testing.T) {
	for _, expr := range []string{
		"web1,web2,web3", "n[1-20,30]-[1-2].dc1", "n[0,00,000]", "n[0-2,00]", "n[1-3,04]", "n[098-101]", "n[8-11]", "a,b1,b2", "r[1-2]n[1-2]", "192.0.2.[7-9]",
		"r[1-4]c[1-8]n[01-16]", "n[1,3,5]",
	} {
		theirs, err := nodeset(t, "-f", "--", expr)
		if err != nil {
			t.Fatal(err)
		}
		names, err := Parse(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := Fold(names); got != theirs {
			t.Errorf("%q: folded to %q, by ClusterShell to %q", expr, got, theirs)
		}
	}
}

// ClusterShell expands what we folded to the names that we had. Letters in brackets it does not know: there are none.
func TestClusterShellReadsWhatWeFold(t *testing.T) {
	seed := rand.Uint64()
	dice := rand.New(rand.NewPCG(seed, 0))
	all := map[string]struct{}{}
	for set := range 40 {
		for range 1 + dice.IntN(40) {
			name := "s" + string(rune('a'+set%26)) + "x"
			for range 1 + set%3 {
				name += strings.Repeat("0", dice.IntN(3)) + string(rune('0'+dice.IntN(10))) + []string{"-", "n", ".r", ""}[dice.IntN(4)]
			}
			all[strings.TrimRight(name, "-.")] = struct{}{}
		}
	}
	var names []string
	for n := range all {
		names = append(names, n)
	}
	folded := Fold(names)
	theirs, err := nodeset(t, "-e", "--", folded)
	if err != nil {
		t.Fatalf("seed %d: %q: %v", seed, folded, err)
	}
	got := strings.Fields(theirs)
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Fatalf("seed %d: %q are %q for ClusterShell, want %q", seed, folded, got, names)
	}
}
