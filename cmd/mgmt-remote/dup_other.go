//go:build !engine && !linux

package main

import "golang.org/x/sys/unix"

// dup makes to another descriptor of from's file.
func dup(from, to int) error { return unix.Dup2(from, to) }
