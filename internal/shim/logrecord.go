package shim

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A log segment is a sequence of records: length of the data (4 bytes, big-endian), checksum (4), stream (1),
// offset (8), data. The offset counts the bytes of both streams together, so a reader sees what is missing.
const (
	recordHeader = 4 + 4 + 1 + 8
	maxRecord    = 64 << 10 // bytes of data
)

var (
	castagnoli    = crc32.MakeTable(crc32.Castagnoli)
	errBadRecord  = errors.New("damaged log record")
	errEndOfWrite = errors.New("log record was not written to its end") // the shim died while it wrote
)

// outputRecord is a piece of the payload's output.
type outputRecord struct {
	offset uint64
	stderr bool
	data   []byte
}

func (r outputRecord) end() uint64 { return r.offset + uint64(len(r.data)) }

// appendRecord appends the encoding of r, whose data has 1 to maxRecord bytes.
func appendRecord(dst []byte, r outputRecord) []byte {
	from := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.data)))
	dst = append(dst, 0, 0, 0, 0)
	stream := byte(0)
	if r.stderr {
		stream = 1
	}
	dst = append(dst, stream)
	dst = binary.BigEndian.AppendUint64(dst, r.offset)
	dst = append(dst, r.data...)
	binary.BigEndian.PutUint32(dst[from+4:], checksum(dst[from:]))
	return dst
}

// checksum covers a whole encoded record but the checksum itself.
func checksum(enc []byte) uint32 {
	return crc32.Update(crc32.Checksum(enc[:4], castagnoli), castagnoli, enc[8:])
}

// readRecord reads one record. The data lies in buf, which it returns, grown where needed. At the end of the log the error
// is io.EOF, errEndOfWrite in the middle of a record, errBadRecord where it is damaged.
func readRecord(r io.Reader, buf []byte) (outputRecord, []byte, error) {
	buf = grow(buf, recordHeader)
	if _, err := io.ReadFull(r, buf); err != nil {
		return outputRecord{}, buf, cut(err)
	}
	n := binary.BigEndian.Uint32(buf)
	if n == 0 || n > maxRecord || buf[8] > 1 {
		return outputRecord{}, buf, errBadRecord
	}
	buf = grow(buf, recordHeader+int(n))
	if _, err := io.ReadFull(r, buf[recordHeader:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return outputRecord{}, buf, cut(err)
	}
	rec := outputRecord{offset: binary.BigEndian.Uint64(buf[9:]), stderr: buf[8] == 1, data: buf[recordHeader:]}
	if checksum(buf) != binary.BigEndian.Uint32(buf[4:]) || rec.end() < rec.offset {
		return outputRecord{}, buf, errBadRecord
	}
	return rec, buf, nil
}

func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errEndOfWrite
	}
	return err
}

// grow returns buf with length n, keeping what was in it.
func grow(buf []byte, n int) []byte {
	if cap(buf) < n {
		bigger := make([]byte, n)
		copy(bigger, buf)
		return bigger
	}
	return buf[:n]
}
