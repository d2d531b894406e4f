package shimbin

import (
	"testing"
	"testing/fstest"
)

func TestEmbeddedAreListed(t *testing.T) {
	p := New()
	p.files = fstest.MapFS{"README": {}, "shim-linux-arm64.gz": {Data: pack(t, "shim")}, "engine-darwin-arm64.gz": {Data: pack(t, "engine")}}
	got, err := p.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	want := []Embedded{
		{"engine", "darwin", "arm64", "ed9f6f25068608efd412958da4dfc19328ca3511251fa6d5f9c42baf230e32f8"},
		{"shim", "linux", "arm64", "04e666aa09809daf691a99cc7bf2d57ba09bac171966a71812ffd049d7c96bb1"},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v", got)
	}
	p.files = fstest.MapFS{"shim-linux-arm64.gz": {Data: []byte("?")}}
	if _, err := p.Embedded(); err == nil {
		t.Error("what is damaged was listed")
	}
}
