package gcm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Media types of the two kinds of documents.
const (
	SnapshotType = "application/vnd.roamgate.gcm.snapshot"
	DeltaType    = "application/vnd.roamgate.gcm.delta"
)

// Octets that a document may have on the wire. What is longer than a delta may
// be goes as a snapshot.
const (
	MaxDelta    = 16 << 20
	MaxSnapshot = 512 << 20
)

// Delta leads from one content of a section to the next. Put and Delete are in
// ascending order of their keys, and no key is in both.
type Delta struct {
	Section Section
	// Base is the hash of the content that it starts from.
	Base Hash
	// Version and Hash of the content that it leads to.
	Version Version
	Hash    Hash
	Put     []Record
	Delete  [][]byte
}

// A document begins with a magic number of its kind and version of the format,
// and has integers as unsigned varints (encoding/binary) but where said:
//
//	magic 4 | section: length, text | epoch 8 | number 8 | base 32 (delta) |
//	hash 32 | puts | deletes (delta) | records: key length, key, value length,
//	value | keys: length, key
const (
	snapshotMagic = "RGS1"
	deltaMagic    = "RGD1"
)

// WriteDelta in wire form.
func WriteDelta(w io.Writer, d Delta) error {
	b := bufio.NewWriter(w)
	writeHead(b, deltaMagic, d.Section, d.Version)
	b.Write(d.Base[:])
	b.Write(d.Hash[:])
	writeUvarint(b, len(d.Put))
	writeUvarint(b, len(d.Delete))
	for _, r := range d.Put {
		writeOctets(b, r.Key)
		writeOctets(b, r.Value)
	}
	for _, k := range d.Delete {
		writeOctets(b, k)
	}
	return b.Flush()
}

// WriteSnapshot of a set in wire form. It sorts the records, by eight octets
// each.
func WriteSnapshot(w io.Writer, s *Set) error {
	b := bufio.NewWriter(w)
	writeHead(b, snapshotMagic, s.section, s.version)
	h := s.Hash()
	b.Write(h[:])
	writeUvarint(b, s.Len())
	for k, v := range s.records.sorted() {
		writeOctets(b, k)
		writeOctets(b, v)
	}
	return b.Flush()
}

// ReadSnapshot from the wire, to the end. Errors: ErrMalformed, ErrTooLarge,
// ErrRecord, ErrHash, and those of the reader.
func ReadSnapshot(r io.Reader) (*Set, error) {
	b := bufio.NewReader(r)
	section, version, err := readHead(b, snapshotMagic)
	if err != nil {
		return nil, err
	}
	s, err := NewSet(section)
	if err != nil {
		return nil, err
	}
	s.version = version
	var want Hash
	if _, err := io.ReadFull(b, want[:]); err != nil {
		return nil, cut(err)
	}
	most, longestKey, longestValue, _ := section.limits()
	n, err := readUvarint(b, most)
	if err != nil {
		return nil, err
	}
	var last []byte
	for range n {
		rec, err := readRecord(b, longestKey, longestValue)
		if err != nil {
			return nil, err
		}
		if last != nil && bytes.Compare(last, rec.Key) >= 0 {
			return nil, fmt.Errorf("%w: keys are not in order", ErrMalformed)
		}
		last = rec.Key
		if err := checkRecord(section, rec); err != nil {
			return nil, err
		}
		s.sum.add(recordSum(rec.Key, rec.Value))
		s.records.put(rec)
	}
	if s.Hash() != want {
		return nil, ErrHash
	}
	return s, ended(b)
}

// ReadDelta from the wire, to the end. It is checked against a set by
// Set.Check. Errors: ErrMalformed, ErrTooLarge, and those of the reader.
func ReadDelta(r io.Reader) (Delta, error) {
	b := bufio.NewReader(r)
	section, version, err := readHead(b, deltaMagic)
	if err != nil {
		return Delta{}, err
	}
	d := Delta{Section: section, Version: version}
	most, longestKey, longestValue, ok := section.limits()
	if !ok {
		return Delta{}, fmt.Errorf("%w: no section %q", ErrMalformed, section)
	}
	if _, err := io.ReadFull(b, d.Base[:]); err != nil {
		return Delta{}, cut(err)
	}
	if _, err := io.ReadFull(b, d.Hash[:]); err != nil {
		return Delta{}, cut(err)
	}
	puts, err := readUvarint(b, most)
	if err != nil {
		return Delta{}, err
	}
	deletes, err := readUvarint(b, most)
	if err != nil {
		return Delta{}, err
	}
	for range puts {
		rec, err := readRecord(b, longestKey, longestValue)
		if err != nil {
			return Delta{}, err
		}
		d.Put = append(d.Put, rec)
	}
	for range deletes {
		k, err := readOctets(b, longestKey)
		if err != nil {
			return Delta{}, err
		}
		d.Delete = append(d.Delete, k)
	}
	return d, ended(b)
}

func writeHead(b *bufio.Writer, magic string, section Section, v Version) {
	b.WriteString(magic)
	writeOctets(b, []byte(section))
	var n [16]byte
	binary.BigEndian.PutUint64(n[:8], v.Epoch)
	binary.BigEndian.PutUint64(n[8:], v.Number)
	b.Write(n[:])
}

func readHead(b *bufio.Reader, magic string) (Section, Version, error) {
	var got [4]byte
	if _, err := io.ReadFull(b, got[:]); err != nil {
		return "", Version{}, cut(err)
	}
	if string(got[:]) != magic {
		return "", Version{}, fmt.Errorf("%w: it begins with %q, not %q", ErrMalformed, got, magic)
	}
	name, err := readOctets(b, 16)
	if err != nil {
		return "", Version{}, err
	}
	var n [16]byte
	if _, err := io.ReadFull(b, n[:]); err != nil {
		return "", Version{}, cut(err)
	}
	return Section(name), Version{binary.BigEndian.Uint64(n[:8]), binary.BigEndian.Uint64(n[8:])}, nil
}

func writeUvarint(b *bufio.Writer, n int) {
	var v [binary.MaxVarintLen64]byte
	b.Write(binary.AppendUvarint(v[:0], uint64(n)))
}

func writeOctets(b *bufio.Writer, p []byte) {
	writeUvarint(b, len(p))
	b.Write(p)
}

// readUvarint reads a number in its shortest form, at most most.
func readUvarint(b *bufio.Reader, most int) (int, error) {
	var n uint64
	for shift := 0; shift < 35; shift += 7 {
		o, err := b.ReadByte()
		if err != nil {
			return 0, cut(err)
		}
		n |= uint64(o&0x7f) << shift
		if o < 0x80 {
			if o == 0 && shift > 0 {
				return 0, fmt.Errorf("%w: a number that could be shorter", ErrMalformed)
			}
			if n > uint64(most) {
				return 0, fmt.Errorf("%w: %d where at most %d may be", ErrTooLarge, n, most)
			}
			return int(n), nil
		}
	}
	return 0, fmt.Errorf("%w: a number that is too long", ErrMalformed)
}

func readRecord(b *bufio.Reader, longestKey, longestValue int) (Record, error) {
	k, err := readOctets(b, longestKey)
	if err != nil {
		return Record{}, err
	}
	v, err := readOctets(b, longestValue)
	return Record{k, v}, err
}

func readOctets(b *bufio.Reader, most int) ([]byte, error) {
	n, err := readUvarint(b, most)
	if err != nil {
		return nil, err
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(b, p); err != nil {
		return nil, cut(err)
	}
	return p, nil
}

func ended(b *bufio.Reader) error {
	_, err := b.ReadByte()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: octets behind its end", ErrMalformed)
}

// cut makes the end of the octets in the middle of a document an ErrMalformed.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrMalformed)
	}
	return err
}
