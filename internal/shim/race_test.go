//go:build race

package shim

func init() { buildFlags = append(buildFlags, "-race") }
