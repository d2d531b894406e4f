// Package wire is the protocol between an initiator and the shim it attached to on a host: the frames
// (wire.proto), how they are put on a stream (Conn), and how the stream is found behind the noise that login
// shells print (SkipTo, AfterMarker).
//
// A stream begins with a line that consists of a random marker, written by the shim. Behind it both sides send
// frames: a length of four bytes, big-endian, and that many bytes of a protobuf-encoded Frame. The initiator
// begins with Hello.
//
// Both ends link this package and the shim has to stay small: it must never import anything of the initiator,
// etcd, or SSH. It decides nothing; what a frame means is told in wire.proto.
package wire

//go:generate protoc -I ../.. --go_out=../.. --go_opt=paths=source_relative internal/wire/wire.proto
