package inventory

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// What docs/inventory.md says that its example says.
func TestDocumentedExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/inventory.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```yaml\n")
	example, rest, found := strings.Cut(example, "```")
	if !found {
		t.Fatal("there is no example")
	}
	inv := mustBuild(t, FormatAuto, example)
	rows := regexp.MustCompile("(?m)^\\| `([a-z0-9.]+)` \\| ([a-z]+=.*) \\|$").FindAllStringSubmatch(rest, -1)
	if len(rows) < 3 {
		t.Fatalf("the page tells of %d hosts", len(rows))
	}
	for _, row := range rows {
		e := inv.Entry(row[1])
		if e == nil {
			t.Errorf("there is no %s", row[1])
			continue
		}
		got := map[string]string{"address": e.Host.Addr, "port": fmt.Sprint(e.Host.Port)}
		for f, v := range e.Fields {
			got[string(f)] = v.Text
		}
		for _, values := range []map[string]Value{e.Labels, e.Vars} {
			for k, v := range values {
				got[k] = v.Text
			}
		}
		for _, said := range strings.Fields(row[2]) {
			if key, value, _ := strings.Cut(said, "="); got[key] != value {
				t.Errorf("%s: %s is %q, the page says %q", row[1], key, got[key], value)
			}
		}
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (yes)? ?\\| (yes)? ?\\|").FindAllStringSubmatch(rest, -1) {
		documented[row[1]] = true
	}
	for _, f := range append([]Field{Address, "labels", "vars", "hosts", "children"}, ownFields...) {
		if !documented[string(f)] {
			t.Errorf("the page does not describe the key %s", f)
		}
	}
	for name := range ansibleFields {
		if !strings.Contains(rest, "`"+name+"`") {
			t.Errorf("the page does not name %s", name)
		}
	}
	for _, format := range Formats()[1:] {
		if !strings.Contains(rest, "| `"+string(format)+"` |") {
			t.Errorf("the page does not name the format %s", format)
		}
	}
}

// The page's node sets are the names beside them.
func TestDocumentedNodeSets(t *testing.T) {
	page, err := os.ReadFile("../../docs/inventory.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]*\\[[^`]*)` \\| (?:in one of both only: )?([a-z0-9 ]+)(?::[^|]*)? \\|$").FindAllStringSubmatch(string(page), -1)
	tried := 0
	for _, row := range rows {
		if strings.HasPrefix(row[2], "without") || strings.HasPrefix(row[2], "in both") {
			continue
		}
		tried++
		hosts, err := ParseHosts(row[1])
		var names []string
		for _, h := range hosts {
			names = append(names, h.Name)
		}
		if err != nil || strings.Join(names, " ") != row[2] {
			t.Errorf("%s is %q, %v; the page says %q", row[1], names, err, row[2])
		}
	}
	if tried < 4 {
		t.Errorf("the page has %d node sets with their names", tried)
	}
}
