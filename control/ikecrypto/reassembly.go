package ikecrypto

import (
	"errors"
	"slices"

	"github.com/roamgate/roamgate/control/ikewire"
)

// MaxReassembly is how many octets of content the fragments of one message may
// have together.
const MaxReassembly = 64 << 10

// Reassembly collects the fragments of one message at a time (RFC 7383 section
// 2.6), of requests or of responses. It holds at most MaxFragments with
// together MaxReassembly octets, and none that these keys didn't seal. The zero
// value is ready for use.
type Reassembly struct {
	// Limit on the octets of content, if smaller than MaxReassembly; 0 is that.
	// Only Add reads it.
	Limit int

	header ikewire.Header
	total  uint16 // 0: nothing collected
	have   int
	octets int
	parts  [][]byte // total of them; nil where one is missing
	first  ikewire.PayloadType
}

// Add opens a fragment, from whose octets raw m was parsed, and keeps it. The
// caller has made sure that m has the message ID it waits for. A fragment of a
// later message than the one being collected starts anew, and so does a
// division into more fragments, which a sender makes that learned of a smaller
// path MTU.
//
// complete says that there is nothing more to wait for: inner and err are then
// what Open would have returned after a successful check, and nothing is kept.
// Otherwise an error says why the fragment counts as never received:
// ErrNotEncrypted, ErrNotFragment, ErrErased, ErrIntegrity, ErrFragmentStale,
// ErrFragmentLimit, the last of which, if it is about octets, costs the
// fragments collected before it too.
func (r *Reassembly) Add(p Protector, raw []byte, m *ikewire.Message) (inner []ikewire.Payload, complete bool, err error) {
	sk, err := fragment(raw, m)
	if err != nil {
		return nil, false, err
	}
	// What is cheap to refuse is refused before the checksum is computed, as
	// the RFC has it. Nothing is changed before it was found right.
	if sk.Total > MaxFragments || sk.Fragment == 0 || sk.Fragment > sk.Total {
		return nil, false, ErrFragmentLimit
	}
	same := r.collecting(&m.Header)
	if r.total != 0 && !same && m.MessageID <= r.header.MessageID {
		return nil, false, ErrFragmentStale
	}
	if same && (sk.Total < r.total || sk.Total == r.total && r.parts[sk.Fragment-1] != nil) {
		return nil, false, ErrFragmentStale
	}
	f, err := p.OpenFragment(raw, m)
	if errors.Is(err, ikewire.ErrLength) {
		r.Reset() // authentic, but its padding makes no sense
		return nil, true, err
	}
	if err != nil {
		return nil, false, err
	}
	if !same || f.Total > r.total {
		*r = Reassembly{Limit: r.Limit, header: m.Header, total: f.Total, parts: make([][]byte, f.Total)}
	}
	limit := MaxReassembly
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	if r.octets+len(f.Data) > limit {
		r.Reset()
		return nil, false, ErrFragmentLimit
	}
	r.keep(f)
	if r.have < int(r.total) {
		return nil, false, nil
	}
	first, content := r.first, slices.Concat(r.parts...)
	r.Reset()
	inner, err = ikewire.ParsePayloads(first, content)
	return inner, true, err
}

// collecting says whether h is of the message being collected. Lengths and the
// next payload differ between fragments.
func (r *Reassembly) collecting(h *ikewire.Header) bool {
	return r.total != 0 &&
		h.InitiatorSPI == r.header.InitiatorSPI && h.ResponderSPI == r.header.ResponderSPI &&
		h.Exchange == r.header.Exchange && h.Flags == r.header.Flags && h.MessageID == r.header.MessageID
}

func (r *Reassembly) keep(f Fragment) {
	if f.Number == 1 {
		r.first = f.First
	}
	// An empty part is kept as one that isn't nil, and the room that padding
	// took is given back.
	r.parts[f.Number-1] = append(make([]byte, 0, len(f.Data)), f.Data...)
	r.have++
	r.octets += len(f.Data)
}

// Pending is the number of fragments that are kept.
func (r *Reassembly) Pending() int { return r.have }

// Reset drops what was collected.
func (r *Reassembly) Reset() { *r = Reassembly{} }
