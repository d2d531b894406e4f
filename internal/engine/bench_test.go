package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// many declares n files in directories of 100, which are declared as well.
func many(dir string, n int) *graph.Definition {
	def := &graph.Definition{}
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprint(i/100))
		if i%100 == 0 {
			def.Resources = append(def.Resources, res(graph.KindFile, sub, &graph.File{Path: sub + "/"}))
		}
		def.Resources = append(def.Resources, fileWith(fmt.Sprint(i), filepath.Join(sub, fmt.Sprint(i)), "content"))
	}
	return def
}

// engineOf runs def until it is quiet; the engine says each time on the channel. The function ends it.
func engineOf(b *testing.B, def *graph.Definition) (*Engine, chan struct{}, func()) {
	b.Helper()
	quiet := make(chan struct{}, 1)
	e, err := New(def, Options{Status: func(s Status) {
		if s == Quiet {
			quiet <- struct{}{}
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-quiet
	return e, quiet, func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

const manyFiles = 10_000

func BenchmarkFirstApply(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		def := many(b.TempDir(), manyFiles)
		b.StartTimer()
		_, _, stop := engineOf(b, def)
		stop()
	}
}

func BenchmarkSecondCheck(b *testing.B) {
	def := many(b.TempDir(), manyFiles)
	_, _, stop := engineOf(b, def)
	stop()
	for b.Loop() {
		_, _, stop := engineOf(b, def)
		stop()
	}
}

// BenchmarkMemory tells what the engine holds for each resource, without the definition.
func BenchmarkMemory(b *testing.B) {
	def := many(b.TempDir(), manyFiles)
	_, _, stop := engineOf(b, def)
	stop()
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := used()
		e, _, stop := engineOf(b, def)
		b.ReportMetric(float64(used()-before)/float64(len(def.Resources)), "B/resource")
		runtime.KeepAlive(e)
		stop()
	}
	runtime.KeepAlive(def)
}

// BenchmarkUpdateOfOne adds one file to many and waits until it is there.
func BenchmarkUpdateOfOne(b *testing.B) {
	dir := b.TempDir()
	def := many(dir, manyFiles)
	e, quiet, stop := engineOf(b, def)
	i := 0
	for b.Loop() {
		i++
		name := fmt.Sprint("new", i)
		if err := e.Update(with(def, fileWith(name, filepath.Join(dir, name), "content"))); err != nil {
			b.Fatal(err)
		}
		<-quiet
	}
	stop()
}
