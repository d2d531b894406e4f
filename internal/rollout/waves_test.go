package rollout

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("h%d", i)
	}
	return all
}

func amounts(t *rapid.T) []Amount {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Amount {
		if rapid.Bool().Draw(t, "percent") {
			return Amount{rapid.IntRange(1, 100).Draw(t, "n"), true}
		}
		return Amount{rapid.IntRange(1, 40).Draw(t, "n"), false}
	}), 0, 4).Draw(t, "serial")
}

// TestWavesAreAPartition: every host once, canaries first and alone, the order kept, and the sizes what was asked for.
func TestWavesAreAPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := names(rapid.IntRange(0, 60).Draw(t, "hosts"))
		serial := amounts(t)
		canary := rapid.SliceOfDistinct(rapid.SampledFrom(names(70)), rapid.ID).Draw(t, "canary")
		waves := Waves(hosts, serial, canary)
		first := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return !slices.Contains(canary, h) })
		others := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return slices.Contains(canary, h) })
		if len(first) > 0 {
			if len(waves) == 0 || !slices.Equal(waves[0], first) {
				t.Fatalf("the canaries %q are not the first of %q", first, waves)
			}
			waves = waves[1:]
		}
		if all := slices.Concat(waves...); !slices.Equal(all, others) {
			t.Fatalf("the others %q became %q", others, waves)
		}
		for i, wave := range waves {
			want := len(others)
			if len(serial) > 0 {
				a := serial[min(i, len(serial)-1)]
				if want = a.N; a.Percent {
					want = max(1, len(hosts)*a.N/100)
				}
			}
			if len(wave) == 0 || len(wave) > want || len(wave) < want && i < len(waves)-1 {
				t.Fatalf("wave %d has %d hosts, not %d", i, len(wave), want)
			}
		}
	})
}

func TestWaves(t *testing.T) {
	for _, c := range []struct {
		hosts  int
		serial string
		canary []string
		want   string
	}{
		{10, "", nil, "10"},
		{0, "5", nil, ""},
		{10, "3", nil, "3 3 3 1"},
		{10, "1,3", nil, "1 3 3 3"},
		{10, "25%", nil, "2 2 2 2 2"},
		{10, "1%", nil, "1 1 1 1 1 1 1 1 1 1"},
		{100, "1,10%,100%", nil, "1 10 89"},
		{10, "50%", []string{"h9", "h3", "h77"}, "2 5 3"},
		{3, "", []string{"h1"}, "1 2"},
		{2, "", []string{"h0", "h1"}, "2"},
	} {
		var serial []Amount
		if c.serial != "" {
			var err error
			if serial, err = ParseAmounts(c.serial); err != nil {
				t.Fatal(err)
			}
		}
		var sizes []string
		for _, wave := range Waves(names(c.hosts), serial, c.canary) {
			sizes = append(sizes, fmt.Sprint(len(wave)))
		}
		if got := strings.Join(sizes, " "); got != c.want {
			t.Errorf("%d hosts, %q, %q: %s, not %s", c.hosts, c.serial, c.canary, got, c.want)
		}
	}
}

func TestAmounts(t *testing.T) {
	good, err := ParseAmounts("1, 10%,100%")
	if err != nil || !reflect.DeepEqual(good, []Amount{{1, false}, {10, true}, {100, true}}) {
		t.Errorf("%v, %v", good, err)
	}
	for _, text := range []string{"", "0", "0%", "1,", "101%", "-1", "+1", "1.5", "%", "10%%", "ten"} {
		if got, err := ParseAmounts(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	for _, a := range []Amount{{0, false}, {7, false}, {0, true}, {5, true}} {
		text, err := a.MarshalText()
		var back Amount
		if err != nil || back.UnmarshalText(text) != nil || back != a {
			t.Errorf("%v became %q and %v", a, text, back)
		}
	}
	for _, c := range []struct {
		a            Amount
		count, total int
		want         bool
	}{
		{Amount{0, false}, 0, 9, false}, {Amount{0, false}, 1, 9, true}, {Amount{2, false}, 2, 9, false}, {Amount{2, false}, 3, 9, true},
		{Amount{50, true}, 5, 10, false}, {Amount{50, true}, 6, 10, true}, {Amount{5, true}, 1, 20, false}, {Amount{5, true}, 1, 19, true},
		{Amount{0, true}, 1, 10000, true}, {Amount{100, true}, 3, 3, false},
	} {
		if got := c.a.exceeded(c.count, c.total); got != c.want {
			t.Errorf("%d of %d exceed %v: %v", c.count, c.total, c.a, got)
		}
	}
}
