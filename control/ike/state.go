package ike

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// What rest.go writes and reads, within one process: numbers big-endian or as
// varints, what has a length behind it. Reading what wasn't written panics.

type stateWriter struct {
	b    []byte
	base time.Time
}

func (w *stateWriter) bool(v bool) {
	var octet byte
	if v {
		octet = 1
	}
	w.b = append(w.b, octet)
}

func (w *stateWriter) u16(v uint16)    { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *stateWriter) u32(v uint32)    { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *stateWriter) u64(v uint64)    { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *stateWriter) uint(v uint64)   { w.b = binary.AppendUvarint(w.b, v) }
func (w *stateWriter) float(f float64) { w.u64(math.Float64bits(f)) }

func (w *stateWriter) time(t time.Time) {
	d := int64(never)
	if !t.IsZero() {
		d = int64(t.Sub(w.base))
	}
	w.u64(uint64(d))
}

func (w *stateWriter) octets(b []byte) {
	w.uint(uint64(len(b)))
	w.b = append(w.b, b...)
}

func (w *stateWriter) addrPort(a netip.AddrPort) {
	w.octets(a.Addr().AsSlice())
	w.u16(a.Port())
}

func (w *stateWriter) addresses(list []netip.Addr) {
	w.uint(uint64(len(list)))
	for _, a := range list {
		w.octets(a.AsSlice())
	}
}

type stateReader struct {
	b    []byte
	base time.Time
}

// take the next n octets, of the state itself.
func (r *stateReader) take(n int) []byte {
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *stateReader) bool() bool     { return r.take(1)[0] != 0 }
func (r *stateReader) u16() uint16    { return binary.BigEndian.Uint16(r.take(2)) }
func (r *stateReader) u32() uint32    { return binary.BigEndian.Uint32(r.take(4)) }
func (r *stateReader) u64() uint64    { return binary.BigEndian.Uint64(r.take(8)) }
func (r *stateReader) float() float64 { return math.Float64frombits(r.u64()) }
func (r *stateReader) octets() []byte { return r.take(int(r.uint())) }

func (r *stateReader) time() (t time.Time) {
	if d := int64(r.u64()); d != never {
		t = r.base.Add(time.Duration(d))
	}
	return t
}

func (r *stateReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.take(n)
	return v
}

func (r *stateReader) addr() netip.Addr {
	a, _ := netip.AddrFromSlice(r.octets())
	return a
}

func (r *stateReader) addrPort() netip.AddrPort { return netip.AddrPortFrom(r.addr(), r.u16()) }

func (r *stateReader) addresses() []netip.Addr {
	var list []netip.Addr
	for range r.uint() {
		list = append(list, r.addr())
	}
	return list
}

// restoredID is what AppendBody wrote, but for the reserved octets, which are
// not looked at once a peer has proven who it is.
func restoredID(initiator bool, body []byte) *ikewire.ID {
	return &ikewire.ID{Initiator: initiator, IDType: ikewire.IDType(body[0]), Data: slices.Clone(body[4:])}
}
