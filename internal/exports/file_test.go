package exports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

func mode(m fs.FileMode) *fs.FileMode { return &m }

func TestThereAndBack(t *testing.T) {
	for name, c := range map[string]struct {
		in      graph.File
		content []byte
		want    File
	}{
		"file":      {graph.File{Path: "/etc/motd", Mode: mode(0o640), Owner: "root", Group: "4"}, []byte("\xff\x00hi"), File{Base: "motd", Content: "\xff\x00hi", Mode: mode(0o640), Owner: "root", Group: "4"}},
		"empty":     {graph.File{Path: "/x"}, nil, File{Base: "x"}},
		"mode 0":    {graph.File{Path: "/x", Mode: mode(0)}, nil, File{Base: "x", Mode: mode(0)}},
		"directory": {graph.File{Path: "/etc/conf.d/", Mode: mode(0o755)}, nil, File{Base: "conf.d", Directory: true, Mode: mode(0o755)}},
		"largest":   {graph.File{Path: "/" + strings.Repeat("ü", 127)}, make([]byte, MaxContent), File{Base: strings.Repeat("ü", 127), Content: string(make([]byte, MaxContent))}},
	} {
		data, err := Encode(&c.in, c.content)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := Decode(data)
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for want, f := range map[string]graph.File{
		"can't be absent":   {Path: "/x", State: graph.Absent},
		"force and recurse": {Path: "/x", Force: true},
		"recurse are not":   {Path: "/x/", Recurse: true},
		"no setuid":         {Path: "/x", Mode: mode(0o755 | fs.ModeSetuid)},
		"root directory":    {Path: "/"},
		"absolute and":      {Path: "x"},
		"control":           {Path: "/x\ny"},
		"file name of 300":  {Path: "/" + strings.Repeat("x", 300)},
	} {
		if _, err := Encode(&f, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
	if _, err := Encode(&graph.File{Path: "/x"}, make([]byte, MaxContent+1)); err == nil || !strings.Contains(err.Error(), "513 KiB; an exported file can have 512") {
		t.Errorf("too large: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	one := func(fields string) string { return `{"version":1,` + fields + `}` }
	for in, want := range map[string]string{
		``:                    "can't be read",
		`[]`:                  "can't be read",
		`{}`:                  "no version 0",
		`{"version":-1}`:      "no version -1",
		`{"version":"1"}`:     "can't be read",
		`{"version":2,"x":1}`: "comes from a newer version (2; this one knows 1)",
		one(`"path":"/x","content":"","source":"/etc/shadow"`):                            `unknown field "source"`,
		one(`"path":"/x","content":"","state":"absent"`):                                  `unknown field "state"`,
		one(`"path":"/x","content":"","force":true`):                                      `unknown field "force"`,
		one(`"path":"/x","content":"%%%"`):                                                "can't be read",
		one(`"path":"/x","content":""`) + `{}`:                                            "can't be read",
		one(`"path":"/x"`):                                                                "content: missing",
		one(`"path":"/x","directory":true,"content":""`):                                  "a directory has none",
		one(`"path":"","content":""`):                                                     "not absolute",
		one(`"path":"x","content":""`):                                                    "not absolute",
		one(`"path":"/","content":""`):                                                    "root directory",
		one(`"path":"/tmp/../etc/passwd","content":""`):                                   "absolute and clean",
		one(`"path":"/tmp/..","content":""`):                                              "absolute and clean",
		one(`"path":"/tmp/.","content":""`):                                               "absolute and clean",
		one(`"path":"/tmp/","content":""`):                                                "absolute and clean",
		one(`"path":"/x\u0000y","content":""`):                                            "control characters",
		one(`"path":"/x\u001b[2J","content":""`):                                          "control characters",
		one(`"path":"/x","content":"","mode":"4755"`):                                     "not between 0000 and 0777",
		one(`"path":"/x","content":"","mode":"1777"`):                                     "not between",
		one(`"path":"/x","content":"","mode":"-1"`):                                       "not between",
		one(`"path":"/x","content":"","mode":"0o755"`):                                    "not between",
		one(`"path":"/x","content":"","owner":"a\nb"`):                                    "owner",
		one(fmt.Sprintf(`"path":"/x","content":"","group":%q`, strings.Repeat("g", 513))): "too long",
	} {
		if f, err := Decode([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %+v, %v; want %q", in, f, err, want)
		}
	}
	large, err := json.Marshal(encoded{Version: 1, Path: "/x", Content: make([]byte, MaxContent+1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(large); err == nil || !strings.Contains(err.Error(), "513 KiB") {
		t.Errorf("content too large: %v", err)
	}
	if _, err := Decode(bytes.Repeat([]byte(" "), MaxEncoded+1)); err == nil || !strings.Contains(err.Error(), "are the most") {
		t.Errorf("bytes too many: %v", err)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"motd": true, "etc/motd": true, "..motd": true, "a b:c'": true, "ü": true,
		"": false, "/etc/motd": false, "..": false, "../x": false, "a/../b": false, "a/..": false, "a\x00": false, "a\nb": false,
		"\xff": false, strings.Repeat("x", 513): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
