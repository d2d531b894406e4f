package nodeset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for expr, want := range map[string]string{
		"web1":                  "web1",
		"web[1-3]":              "web1 web2 web3",
		"web[3,1-2]":            "web3 web1 web2",
		"web[1-3,2-4]":          "web1 web2 web3 web4",
		"n[08-11]":              "n08 n09 n10 n11",
		"n[1,01]":               "n1 n01",
		"n[0-10/5]":             "n0 n5 n10",
		"n[01-10/4]":            "n01 n05 n09",
		"n[0-5/9]":              "n0",
		"r[1-2]n[3-4]":          "r1n3 r1n4 r2n3 r2n4",
		"[1-2]":                 "1 2",
		"n3[1-2]":               "n31 n32",
		"n[1-2]3":               "n13 n23",
		"n[1-2][a,b]":           "n1a n1b n2a n2b",
		"w[a-c].x":              "wa.x wb.x wc.x",
		"w[A-B]":                "wA wB",
		"[web,db_x,1a]-1":       "web-1 db_x-1 1a-1",
		"a,b , c":               "a b c",
		"b,a,b":                 "b a",
		"n[1-5]!n3":             "n1 n2 n4 n5",
		"n[1-5]!n[2-3]!n9":      "n1 n4 n5",
		"n[1-5]&n[4-9]":         "n4 n5",
		"n[1-3]^n[3-4]":         "n1 n2 n4",
		"n[1-3]^n4,n4":          "n1 n2 n3 n4",
		"a,b!b,b":               "a b",
		"n[1-20]!n[2-3]&n[1-5]": "n1 n4 n5",
		"n[ 1 - 3 , 7 ]":        "n1 n2 n3 n7",
		"a!a":                   "",
		"web[1-2]-[a,b].dc1":    "web1-a.dc1 web1-b.dc1 web2-a.dc1 web2-b.dc1",
		"n[999999999999999998-999999999999999999]": "n999999999999999998 n999999999999999999",
	} {
		got, err := Parse(expr)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v, want %q", expr, strings.Join(got, " "), err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for expr, say := range map[string]string{
		"":                      "no name was given",
		"  ":                    "no name was given",
		"a,":                    "character 2: a name is missing after ','",
		"a,,b":                  "character 2: a name is missing after ','",
		"!a":                    "character 1: a name is missing before '!'",
		"a & !b":                "character 3: a name is missing after '&'",
		"a,n[1":                 "character 4: the bracket is not closed",
		"a,n1]":                 "character 5: no bracket is open",
		"n[]":                   "character 3: an element of the bracket is missing",
		"n[1,]":                 "character 5: an element",
		"n[5-1]":                "character 3: the range runs backwards",
		"n[1,c-a]":              "character 5: the range runs backwards",
		"n[9-010]":              "with leading zeros",
		"n[01-9]":               "with leading zeros",
		"n[1-2/0]":              "the step is not a number",
		"n[1-2/x]":              "the step is not a number",
		"n[1-2/]":               "the step is not a number",
		"n[5/2]":                "only a range has a step",
		"n[1-x]":                "a range is two numbers",
		"n[1--3]":               "a range is two numbers",
		"n[-3]":                 "a range is two numbers",
		"n[aa-bb]":              "a range is two numbers",
		"n[a-B]":                "all small or all large",
		"n[1:3]":                `not ":"`,
		"n[1[2]3]":              `not "["`,
		"n[1 2]":                "white space within an element",
		"n 1":                   "character 2: white space within a name",
		"n[0-1000000]":          "more than 1000000 names",
		"n[1-1000]x[1-1001]":    "more than 1000000 names",
		"n[1-999999],a[1-2]":    "more than 1000000 names",
		"n[0-9999999999999999]": "more than 1000000 names",
		"n[1-99999][1-99999][1-99999][1-99999][1-99999]": "more than 1000000 names",
		"n[1-1000000000000000000]":                       "more than 18 digits",
	} {
		got, err := Parse(expr)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: got %d names, error %v; want an error with %q", expr, len(got), err, say)
		}
	}
}

func TestMostNamesAreAllowed(t *testing.T) {
	names, err := Parse("n[1-1000]x[1-1000]")
	if err != nil || len(names) != MaxNames || names[MaxNames-1] != "n1000x1000" {
		t.Fatal(len(names), err)
	}
}

func TestFold(t *testing.T) {
	for names, want := range map[string]string{
		"":                                    "",
		"web1":                                "web1",
		"web1 web1":                           "web1",
		"web3 web1 web2":                      "web[1-3]",
		"n1 n3 n5":                            "n[1,3,5]",
		"n08 n09 n10 n11":                     "n[08-11]",
		"n8 n9 n10 n11":                       "n[8-11]",
		"n98 n99 n100":                        "n[98-100]",
		"n08 n9":                              "n[9,08]",
		"n099 n100 n101":                      "n[099-101]",
		"n08 n99 n100":                        "n[08,99-100]",
		"n0 n00 n000":                         "n[0,00,000]",
		"n0 n1 n2 n00":                        "n[0-2,00]",
		"a b c":                               "a,b,c",
		"web1 db2":                            "db2,web1",
		"web10 web2":                          "web[2,10]",
		"1 2 3":                               "[1-3]",
		"192.0.2.7 192.0.2.8 192.0.3.7":       "192.0.2.[7-8],192.0.3.7",
		"r1n1 r1n2 r2n1 r2n2":                 "r[1-2]n[1-2]",
		"r1n1 r1n2 r2n1":                      "r1n[1-2],r2n1",
		"r1n1 r2n1 r3n1 r1n2":                 "r1n2,r[1-3]n1",
		"web1-a.dc1 web1-b.dc1 web2-a.dc1":    "web1-[a,b].dc1,web2-a.dc1",
		"r-a r-b r-c r-e":                     "r-[a-c,e]",
		"r-a r-1":                             "r-1,r-a",
		"r-A r-a r-b":                         "r-[A,a,b]",
		"rack1a rack1b rack2a rack2b":         "rack[1-2][a,b]",
		"web-1.a1 web-2.a1 web-1.b1 web-2.b1": "web-[1-2].a1,web-[1-2].b1",
		"i1234567890123456789 i1234567890123456788": "i1234567890123456788,i1234567890123456789",
	} {
		list := strings.Fields(names)
		if got := Fold(list); got != want {
			t.Errorf("%q: got %q, want %q", names, got, want)
		}
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if got := Fold(list); got != want {
			t.Errorf("%q in another order: got %q, want %q", list, got, want)
		}
	}
}

// What a person wrote comes back, where it is as short as can be.
func TestFoldGivesTheExpressionBack(t *testing.T) {
	for _, expr := range []string{"web[1-20,30]-[a,b].dc1", "n[001-100]", "r[1-4]c[1-8]n[01-16]", "db-[a-f]", "cn[0-9].rack[1-2].[10-12]"} {
		names, err := Parse(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := Fold(names); got != expr {
			t.Errorf("%q came back as %q", expr, got)
		}
	}
}

func TestCount(t *testing.T) {
	for operand, want := range map[string]int{"a": 1, "a[1-3,7]": 4, "a[1-4][0-10/5]": 12, "n[1-1000]x[1-1000]": MaxNames} {
		if got, err := Count(operand); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", operand, got, err, want)
		}
	}
	for _, operand := range []string{"n[1-1000]x[1-1001]", "a[2-1]", "n[0-1000000]"} {
		if got, err := Count(operand); err == nil {
			t.Errorf("%q: got %d, want an error", operand, got)
		}
	}
}

// nameGen makes names that have much in common, and some that are hardly names.
func nameGen() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`(web|n|r-)(0{0,2}[0-9]{1,3})?(-[a-d])?(\.dc[1-3])?`),
		rapid.StringMatching(`[a-cA-B0-2._-]{1,9}`),
		rapid.StringMatching(`[0-9]{1,22}`),
	)
}

func TestExpandingWhatWasFolded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(nameGen(), 1, 60).Draw(t, "names")
		folded := Fold(names)
		got, err := Parse(folded)
		if err != nil {
			t.Fatalf("%q: %v", folded, err)
		}
		slices.Sort(names)
		names = slices.Compact(names)
		all, err := expandAll(folded)
		if err != nil || len(all) != len(got) {
			t.Fatalf("%q names something twice", folded)
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			t.Fatalf("%q are %q, want %q", folded, got, names)
		}
		if again := Fold(got); again != folded {
			t.Fatalf("folds to %q, and in another order to %q", folded, again)
		}
	})
}

// expandAll expands every piece and drops no repetition.
func expandAll(expr string) ([]string, error) {
	operands, err := Split(expr)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, o := range operands {
		names, err := Expand(o.Text)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return all, nil
}

// The operators do what they do to sets.
func TestOperators(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "operands")
		var expr strings.Builder
		have := map[string]bool{}
		for i := range n {
			low := rapid.IntRange(0, 12).Draw(t, "low")
			high := rapid.IntRange(low, 12).Draw(t, "high")
			op := Union
			if i > 0 {
				op = rapid.SampledFrom([]Op{Union, Difference, Intersection, Symmetric}).Draw(t, "op")
				expr.WriteByte(byte(op))
			}
			fmt.Fprintf(&expr, "n[%d-%d]", low, high)
			for k := range 13 {
				name, in := fmt.Sprintf("n%d", k), k >= low && k <= high
				switch op {
				case Union:
					have[name] = have[name] || in
				case Difference:
					have[name] = have[name] && !in
				case Intersection:
					have[name] = have[name] && in
				case Symmetric:
					have[name] = have[name] != in
				}
			}
		}
		got, err := Parse(expr.String())
		if err != nil {
			t.Fatal(err)
		}
		for name, in := range have {
			if slices.Contains(got, name) != in {
				t.Fatalf("%s: is %s in %q? want %v", expr.String(), name, got, in)
			}
		}
		slices.Sort(got)
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("%s: a name is there twice: %q", expr.String(), got)
		}
	})
}

func TestCompare(t *testing.T) {
	sorted := []string{"1", "2", "10", "a", "n1", "n01", "n001", "n1x", "n2", "n10", "n10a", "nn"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := Compare(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"web[1-20,30]-[a,b].dc1", "n[01-10/3]!n04&n[1-9]^x", "[", "]", "n[1-2", "a,,b", "n[1-2][3-4/2]", "x!", " a , b "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		names, err := Parse(expr)
		if err != nil {
			if names != nil {
				t.Fatalf("%q: names beside an error", expr)
			}
			return
		}
		if len(names) > MaxNames {
			t.Fatalf("%q: %d names", expr, len(names))
		}
		for _, n := range names {
			if n == "" || strings.ContainsAny(n, "[],!&^ \t") {
				t.Fatalf("%q: a name is %q", expr, n)
			}
		}
		if len(names) > 2000 || strings.ContainsAny(expr, "\x00\x01") {
			return
		}
		again, err := Parse(Fold(names))
		if len(names) == 0 {
			return
		}
		if err != nil {
			t.Fatalf("%q was folded to %q: %v", expr, Fold(names), err)
		}
		slices.Sort(names)
		slices.Sort(again)
		if !slices.Equal(names, again) {
			t.Fatalf("%q was folded to %q", expr, Fold(names))
		}
	})
}

func benchmarkNames(b *testing.B, expr string) []string {
	b.Helper()
	names, err := Parse(expr)
	if err != nil {
		b.Fatal(err)
	}
	return names
}

func BenchmarkParse10000(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("web[1-5000]-[a,b].dc1"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFold10000(b *testing.B) {
	names := benchmarkNames(b, "web[1-5000]-[a,b].dc1")
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for b.Loop() {
		Fold(names)
	}
}

func BenchmarkFold10000WithHoles(b *testing.B) {
	var names []string
	for i, n := range benchmarkNames(b, "r[1-40]c[1-20]n[1-16]") {
		if i%7 != 0 {
			names = append(names, n)
		}
	}
	for b.Loop() {
		Fold(names)
	}
}

func BenchmarkFold10000Unrelated(b *testing.B) {
	dice := rand.New(rand.NewPCG(1, 2))
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("n%d-%d.%d", dice.IntN(3000), dice.IntN(3000), dice.IntN(3000))
	}
	for b.Loop() {
		Fold(names)
	}
}
