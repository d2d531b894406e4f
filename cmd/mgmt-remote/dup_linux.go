//go:build !engine

package main

import "golang.org/x/sys/unix"

// dup makes to another descriptor of from's file. Linux has no dup2 on its newer architectures.
func dup(from, to int) error { return unix.Dup3(from, to, 0) }
