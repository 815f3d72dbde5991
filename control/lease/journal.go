package lease

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// The journal is a file beside the lease file, with ".journal" after its name. It
// has two halves that are filled in turn. A batch is one frame, that begins at a
// multiple of 4,096 octets, so that writing one never touches a block in which
// another one lies. All numbers are in network order:
//
//	 0  "RGLJ"
//	 4  CRC-32C of all that follows
//	 8  length of the records, 4 octets
//	12  life, 8 octets: which journal this is, see position
//	20  sequence, 8 octets, from 1
//	28  time of the write, 8 octets
//	36  records: address with its length before it, 1 octet; entry as in the file
//	    with its length before it, 2 octets, 0 for an address without an entry
//
// What lies between frames is of no account: zeros, or what is left of older ones.
const (
	frameMagic  = "RGLJ"
	frameHeader = 36
	frameAlign  = 4096

	journalHalf = 1 << 20
	// journalStep is how much is written as zeros at a time, so that the sync of
	// a frame has no block to allocate and no length to write.
	journalStep = 128 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// change is what is to be written of an address.
type change struct {
	gone  bool // no entry
	entry entry
}

// frame is what was read of a batch.
type frame struct {
	sequence uint64
	written  int64
	records  []byte
}

// appendFrame appends a batch without filling the last block up.
func appendFrame(b []byte, life, sequence uint64, changes map[key]change, now int64) []byte {
	start := len(b)
	b = append(b, frameMagic+"\x00\x00\x00\x00\x00\x00\x00\x00"...)
	b = binary.BigEndian.AppendUint64(b, life)
	b = binary.BigEndian.AppendUint64(b, sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(now))
	for k, c := range changes {
		address := k.addr().AsSlice()
		b = append(append(b, byte(len(address))), address...)
		b = append(b, 0, 0)
		if !c.gone {
			at := len(b)
			b = c.entry.append(b)
			binary.BigEndian.PutUint16(b[at-2:], uint16(len(b)-at))
		}
	}
	f := b[start:]
	binary.BigEndian.PutUint32(f[8:], uint32(len(f)-frameHeader))
	binary.BigEndian.PutUint32(f[4:], crc32.Checksum(f[8:], castagnoli))
	return b
}

// parseFrame returns the frame of this life that b begins with, if there is a
// whole one.
func parseFrame(b []byte, life uint64) (f frame, ok bool) {
	if len(b) < frameHeader || string(b[:4]) != frameMagic || binary.BigEndian.Uint64(b[12:]) != life {
		return frame{}, false
	}
	length := binary.BigEndian.Uint32(b[8:])
	if uint64(length) > uint64(len(b)-frameHeader) {
		return frame{}, false
	}
	b = b[:frameHeader+int(length)]
	if crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return frame{}, false
	}
	return frame{
		sequence: binary.BigEndian.Uint64(b[20:]),
		written:  int64(binary.BigEndian.Uint64(b[28:])),
		records:  b[frameHeader:],
	}, true
}

// apply puts the records into changes, over what is there.
func (f frame) apply(changes map[key]change) error {
	take := func(n int) (b []byte) {
		n = min(n, len(f.records))
		b, f.records = f.records[:n], f.records[n:]
		return b
	}
	for len(f.records) > 0 {
		name := take(int(take(1)[0]))
		k, err := parseKey(name)
		if err != nil {
			return err
		}
		length := take(2)
		if len(length) < 2 {
			return fmt.Errorf("record of %v is cut", k.addr())
		}
		n := int(binary.BigEndian.Uint16(length))
		if n == 0 {
			changes[k] = change{gone: true}
			continue
		}
		value := take(n)
		if len(value) < n {
			return fmt.Errorf("record of %v is cut", k.addr())
		}
		e, err := parseEntry(value)
		if err != nil {
			return fmt.Errorf("%v: %w", k.addr(), err)
		}
		changes[k] = change{entry: e}
	}
	return nil
}

// readFrames returns what a journal says after the position: changes, and the
// time of the last frame, 0 if there is none. A frame that isn't whole is as good
// as none: it is the last one, whose write was cut. That one is missing and later
// ones are there is an error.
func readFrames(b []byte, p position) (changes map[key]change, written int64, err error) {
	changes = make(map[key]change)
	var frames []frame
	for len(b) > 0 {
		n := 1
		f, ok := parseFrame(b, p.life)
		if ok {
			n = frameHeader + len(f.records)
		}
		if ok && f.sequence > p.sequence {
			frames = append(frames, f)
		}
		b = b[min(aligned(n), len(b)):]
	}
	slices.SortFunc(frames, func(a, b frame) int { return cmp.Compare(a.sequence, b.sequence) })
	for i, f := range frames {
		if want := p.sequence + 1 + uint64(i); f.sequence != want {
			return nil, 0, fmt.Errorf("batch %d is missing or damaged, and %d is there", want, f.sequence)
		}
		if err := f.apply(changes); err != nil {
			return nil, 0, fmt.Errorf("batch %d: %w", f.sequence, err)
		}
		written = f.written
	}
	return changes, written, nil
}

func aligned(n int) int { return (n + frameAlign - 1) / frameAlign * frameAlign }

// disk is the journal's file.
type disk interface {
	io.WriterAt
	// Sync returns when what was written is on disk.
	Sync() error
	io.Closer
}

// journal is what the loop appends to.
type journal struct {
	disk      disk
	half      int    // octets
	allocated int    // up to here a sync has nothing to write but what was written
	life      uint64 // 0: nothing may be appended before a checkpoint
	sequence  uint64 // of the last frame
	at, end   int    // where the next frame goes, and where its half ends
	buffer    []byte
}

// begin starts a life: the journal is empty.
func (j *journal) begin(life uint64) {
	j.life, j.sequence, j.at, j.end = life, 0, 0, j.half
}

// turn goes to the other half, over what is there.
func (j *journal) turn() {
	if j.end == j.half {
		j.at, j.end = j.half, 2*j.half
	} else {
		j.at, j.end = 0, j.half
	}
}

// frame makes the next frame. It is valid until the next call.
func (j *journal) frame(changes map[key]change, now int64) []byte {
	j.buffer = appendFrame(j.buffer[:0], j.life, j.sequence+1, changes, now)
	b := append(j.buffer, make([]byte, aligned(len(j.buffer))-len(j.buffer))...)
	j.buffer = b
	if cap(b) > journalStep { // a crowd's
		j.buffer = nil
	}
	return b
}

func (j *journal) fits(frame []byte) bool { return j.at+len(frame) <= j.end }

// append writes a frame that fits, and returns when it is on disk. If it fails,
// the frame may be on disk or not.
func (j *journal) append(frame []byte) error {
	if err := j.allocate(j.at + len(frame)); err != nil {
		return err
	}
	if _, err := j.disk.WriteAt(frame, int64(j.at)); err != nil {
		return err
	}
	if err := j.disk.Sync(); err != nil {
		return err
	}
	j.at += len(frame)
	j.sequence++
	return nil
}

// allocate writes zeros where a frame goes that is the first one there.
func (j *journal) allocate(end int) error {
	if end <= j.allocated {
		return nil
	}
	zeros := make([]byte, journalStep)
	for at := j.allocated; at < end; at += len(zeros) {
		if _, err := j.disk.WriteAt(zeros, int64(at)); err != nil {
			return err
		}
		j.allocated = at + len(zeros)
	}
	return nil
}

// openJournal makes the file if there is none. Its name is durable then. What it
// says is of no account any more.
func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	j := &journal{disk: newJournalFile(f), half: journalHalf}
	if err == nil {
		j.allocated = int(min(info.Size(), 2*journalHalf)) / frameAlign * frameAlign
		err = errors.Join(f.Chmod(0o600), j.allocate(journalStep), f.Sync(), syncDir(path))
	}
	if err != nil {
		return nil, errors.Join(err, j.disk.Close())
	}
	return j, nil
}

// readJournal returns the octets of a journal, none if there is none.
func readJournal(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(f, 2*journalHalf))
	return b.Bytes(), err
}
