package main

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"
)

func TestBuildIsDescribed(t *testing.T) {
	noted := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}
	for _, tc := range []struct {
		name  string
		told  build
		info  *debug.BuildInfo
		want  build
		shown string
	}{
		{"nothing is known", build{}, nil, build{Version: "devel"}, ""},
		{"a plain build", build{}, &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, build{Version: "devel"}, ""},
		{"go install of a version", build{}, &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, build{Version: "v1.2.3"}, ""},
		{"a repository", build{}, &debug.BuildInfo{Main: debug.Module{Version: "v1.2.4-0.1"}, Settings: noted},
			build{Version: "v1.2.4-0.1", Commit: "abc", Date: "2026-01-02T03:04:05Z", Modified: true}, "commit abc of 2026-01-02T03:04:05Z, with changes\n"},
		{"the linker was told", build{Version: "v2", Commit: "def", Date: "2026-02-03T00:00:00Z"}, &debug.BuildInfo{Settings: noted},
			build{Version: "v2", Commit: "def", Date: "2026-02-03T00:00:00Z"}, "commit def of 2026-02-03T00:00:00Z\n"},
	} {
		got := describeBuild(tc.told, tc.info)
		if got.Version != tc.want.Version || got.Commit != tc.want.Commit || got.Date != tc.want.Date || got.Modified != tc.want.Modified || got.Go == "" {
			t.Errorf("%s: %+v", tc.name, got)
		}
		var out bytes.Buffer
		if err := got.write(&out); err != nil {
			t.Error(err)
		}
		if _, after, _ := strings.Cut(out.String(), "\n"); after != tc.shown {
			t.Errorf("%s: %q", tc.name, after)
		}
	}
}
