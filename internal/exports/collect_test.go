package exports

import (
	"fmt"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// export is what a host offers that exports a file in an ordinary way.
func export(t testing.TB, host, name, path, content string) Export {
	t.Helper()
	data, err := Encode(&graph.File{Path: path}, []byte(content))
	if strings.HasSuffix(path, "/") {
		data, err = Encode(&graph.File{Path: path}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Export{Host: host, Kind: graph.KindFile, Name: name, Data: data, Size: len(data)}
}

// collecting is a definition that manages some paths itself, as file[own0] and so on, and collects into some directories.
func collecting(own []string, into ...string) *graph.Definition {
	def := &graph.Definition{}
	for i, p := range own {
		def.Resources = append(def.Resources, graph.Resource{ID: graph.ID{Kind: graph.KindFile, Name: fmt.Sprintf("own%d", i)}, Spec: &graph.File{Path: p}})
	}
	for _, p := range into {
		def.Collect = append(def.Collect, graph.Collect{Kind: graph.KindFile, Pattern: p})
	}
	return def
}

// show writes resources as ID path content.
func show(resources []graph.Resource) (lines []string) {
	for _, r := range resources {
		f := r.Spec.(*graph.File)
		line := r.ID.String() + " " + f.Path
		switch {
		case f.State == graph.Absent:
			line += " absent"
		case f.Content != nil:
			line += " " + *f.Content
		}
		lines = append(lines, line)
	}
	return lines
}

func words(refused []Refusal) (lines []string) {
	for _, r := range refused {
		lines = append(lines, r.String())
	}
	return lines
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCollect(t *testing.T) {
	def := collecting([]string{"/c/own", "/c/dir/", "/c/deep/x"}, "/c/", "/d/", "/c/sub/", "/c/")
	all := []Export{
		export(t, "b", "motd", "/tmp/motd", "from b"),
		export(t, "a", "motd", "/tmp/motd", "from a"),
		export(t, "a-b", "conf", "/etc/conf.d/", ""),
		export(t, "a", "on own", "/x/own", ""),
		export(t, "a", "on dir", "/x/dir", ""),
		export(t, "a", "above own", "/x/deep", ""),
		export(t, "a", "on a pattern", "/x/sub", ""),
		{Host: "a", Kind: "exec", Name: "other kind"},
		{Host: "a", Kind: graph.KindFile, Name: "../up", Data: all0(t)},
		{Host: "a", Kind: graph.KindFile, Name: "/abs", Data: all0(t)},
		{Host: "a", Kind: graph.KindFile, Name: "large", Size: MaxEncoded + 1},
		{Host: "a", Kind: graph.KindFile, Name: "newer", Data: []byte(`{"version":2}`)},
	}
	resources, refused := Collect(def, all)
	want(t, "collected", show(resources),
		"file[a:motd] /c/motd from a", "file[a-b:conf] /c/conf.d/",
		"file[a:above own in /d/] /d/deep ", "file[a:motd in /d/] /d/motd from a", "file[a:on a pattern in /d/] /d/sub ",
		"file[a:on dir in /d/] /d/dir ", "file[a:on own in /d/] /d/own ", "file[a-b:conf in /d/] /d/conf.d/",
		"file[a:above own in /c/sub/] /c/sub/deep ", "file[a:motd in /c/sub/] /c/sub/motd from a", "file[a:on a pattern in /c/sub/] /c/sub/sub ",
		"file[a:on dir in /c/sub/] /c/sub/dir ", "file[a:on own in /c/sub/] /c/sub/own ", "file[a-b:conf in /c/sub/] /c/sub/conf.d/")
	want(t, "refused", words(refused),
		`file[a:../up] is not collected: the name "../up" leads out of a directory`,
		`file[a:/abs] is not collected: the name "/abs" is an absolute path; an export has a plain name, and a path of its own`,
		"file[a:above own] is not collected: /c/deep has to be a directory, for file[own2]",
		fmt.Sprintf("file[a:large] is not collected: it has %d bytes; %d are the most", MaxEncoded+1, MaxEncoded),
		"file[a:newer] is not collected: it comes from a newer version (2; this one knows 1)",
		"file[a:on a pattern] is not collected: /c/sub has to be a directory, for what is collected into /c/sub/",
		"file[a:on dir] is not collected: file[own1] manages /c/dir",
		"file[a:on own] is not collected: file[own0] manages /c/own",
		"file[b:motd] is not collected: /c/motd is already the place of file[a:motd]",
		"file[b:motd] is not collected: /d/motd is already the place of file[a:motd]",
		"file[b:motd] is not collected: /c/sub/motd is already the place of file[a:motd]")

	shuffled := slices.Clone(all)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	again, refusedAgain := Collect(def, shuffled)
	if !reflect.DeepEqual(again, resources) || !reflect.DeepEqual(refusedAgain, refused) {
		t.Error("the order of the list makes a difference")
	}
}

// all0 is the encoding of a harmless file.
func all0(t *testing.T) []byte { return export(t, "", "", "/x", "").Data }

// What the definition calls its own resources can't make two of one.
func TestIDsNeverClash(t *testing.T) {
	def := collecting(nil, "/c/", "/d/")
	for _, name := range []string{"a:motd", "a:motd in /d/", "a:motd'"} {
		def.Resources = append(def.Resources, graph.Resource{ID: graph.ID{Kind: graph.KindFile, Name: name}, Spec: &graph.File{Path: "/own/" + path.Base(name)}})
	}
	resources, _ := Collect(def, []Export{export(t, "a", "motd", "/motd", ""), export(t, "a", "motd in /d/", "/other", "")})
	want(t, "collected", show(resources), "file[a:motd''] /c/motd ", "file[a:motd in /d/'] /c/other ",
		"file[a:motd in /d/''] /d/motd ", "file[a:motd in /d/ in /d/] /d/other ")
}

// An exported file is not on this host, so it takes no place here.
func TestOwnExportsTakeNoPlace(t *testing.T) {
	def := collecting(nil, "/c/")
	def.Resources = []graph.Resource{{ID: graph.ID{Kind: graph.KindFile, Name: "@@motd"}, Spec: &graph.File{Path: "/c/motd"}}}
	resources, refused := Collect(def, []Export{export(t, "a", "motd", "/c/motd", "x")})
	want(t, "collected", show(resources), "file[a:motd] /c/motd x")
	want(t, "refused", words(refused))
}

// Whatever an export says, it lands directly in the directory of a pattern and has no special mode.
func FuzzCollect(f *testing.F) {
	f.Add("a", "motd", []byte(`{"version":1,"path":"/tmp/motd","content":"aGk=","mode":"0644","owner":"root"}`))
	f.Add("a", "../motd", []byte(`{"version":1,"path":"/tmp/../etc/passwd","content":""}`))
	f.Add("a", "d", []byte(`{"version":1,"path":"/tmp/..","directory":true}`))
	f.Add("a", "m", []byte(`{"version":1,"path":"/m","content":"","mode":"7777"}`))
	f.Fuzz(func(t *testing.T, host, name string, data []byte) {
		def := collecting([]string{"/c/own", "/c/dir/x"}, "/c/", "/e/f/")
		all := []Export{{Host: host, Kind: graph.KindFile, Name: name, Data: data, Size: len(data)}}
		resources, refused := Collect(def, all)
		if len(resources)+len(refused) == 0 {
			t.Fatal("neither collected nor refused")
		}
		used := def.Index()
		for _, r := range resources {
			file := r.Spec.(*graph.File)
			dir := path.Dir(file.Location()) + "/"
			switch {
			case dir != "/c/" && dir != "/e/f/", path.Clean(file.Path) != file.Location(), file.Location() == "/c/own", file.Location() == "/c/dir":
				t.Fatalf("lands on %q", file.Path)
			case file.State != graph.Exists || file.Source != "" || file.Fragments != nil || file.Force || file.Recurse:
				t.Fatalf("%+v", file)
			case file.Mode != nil && *file.Mode&^0o777 != 0:
				t.Fatalf("mode %v", *file.Mode)
			}
			if _, twice := used[r.ID]; twice || r.Exported() {
				t.Fatalf("ID %v", r.ID)
			}
			used[r.ID] = 0
		}
		var c Collector
		if merged, again := c.Merge(def, all); !reflect.DeepEqual(merged.Resources[len(def.Resources):], append([]graph.Resource{}, resources...)) || len(again) != len(refused) {
			t.Fatal("a Collector collects something else")
		}
	})
}

// Names can be told apart where several things are exported; an export that two patterns want is brought in once.
func TestCollectByName(t *testing.T) {
	def := &graph.Definition{Collect: []graph.Collect{
		{Kind: graph.KindFile, Pattern: "/a/", Name: "address-*"}, {Kind: graph.KindFile, Pattern: "/k/", Name: "key-*"}, {Kind: graph.KindFile, Pattern: "/k/"},
	}}
	var all []Export
	for _, name := range []string{"address-h1", "key-h1"} {
		data, err := Encode(&graph.File{Path: "/" + name}, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Export{Host: "h1", Kind: graph.KindFile, Name: name, Data: data, Size: len(data)})
	}
	resources, refused := Collect(def, all)
	got := map[string]bool{}
	for _, r := range resources {
		got[r.Spec.(*graph.File).Path] = true
	}
	if len(refused) != 0 || len(resources) != 3 || !got["/a/address-h1"] || !got["/k/key-h1"] || !got["/k/address-h1"] {
		t.Errorf("%v, refused %v", got, refused)
	}
}
