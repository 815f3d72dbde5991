package ikecrypto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// add hands fragments to r in their order; only the last may complete.
func add(t testing.TB, r *Reassembly, p Protector, raws ...[]byte) (inner []ikewire.Payload) {
	t.Helper()
	for i, raw := range raws {
		got, complete, err := r.Add(p, raw, parse(t, raw))
		if err != nil {
			t.Fatal(err)
		}
		if complete && i+1 < len(raws) {
			t.Fatalf("complete after %d of %d", i+1, len(raws))
		}
		inner = got
	}
	return inner
}

// refused wants an error, and the collection as it was.
func refused(t testing.TB, r *Reassembly, p Protector, raw []byte, want error) {
	t.Helper()
	before := r.Pending()
	inner, complete, err := r.Add(p, raw, parse(t, raw))
	if !errors.Is(err, want) || complete || inner != nil {
		t.Errorf("payloads %v, complete %v, error %v, want %v", inner, complete, err, want)
	}
	if r.Pending() != before {
		t.Errorf("%d fragments kept, %d before", r.Pending(), before)
	}
}

// Any order, each fragment any number of times, forgeries between them: the
// message comes out once, when the last missing one is there.
func TestReassemblyAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7383, 2))
	for _, s := range []Suite{suiteGCM, suiteCBC, suiteChaCha} {
		out, in := newProtector(t, s), newProtector(t, s)
		var r Reassembly
		for round := range 200 {
			m := request()
			m.MessageID = uint32(round + 2)
			inner := chain(100 + rng.IntN(4000))
			raws, err := out.SealFragments(m, inner, 300+rng.IntN(700))
			if err != nil {
				t.Fatal(err)
			}
			if len(raws) == 1 {
				continue
			}
			missing := make(map[int]bool)
			for i := range raws {
				missing[i] = true
			}
			for len(missing) > 0 {
				i := rng.IntN(len(raws))
				forged := bytes.Clone(raws[i])
				forged[len(forged)-1-rng.IntN(24)] ^= 1 << rng.IntN(8)
				want := ErrIntegrity
				if !missing[i] {
					want = ErrFragmentStale
				}
				refused(t, &r, in, forged, want)
				if !missing[i] {
					refused(t, &r, in, raws[i], ErrFragmentStale)
					continue
				}
				delete(missing, i)
				got, complete, err := r.Add(in, raws[i], parse(t, raws[i]))
				if err != nil || complete != (len(missing) == 0) {
					t.Fatalf("%d missing: complete %v, error %v", len(missing), complete, err)
				}
				if complete && !reflect.DeepEqual(got, inner) {
					t.Fatal("another message came out")
				}
			}
			if r.Pending() != 0 || r.parts != nil {
				t.Fatalf("%d fragments kept of a complete message", r.Pending())
			}
		}
	}
}

// A sender that learns of a smaller path MTU divides anew into more fragments;
// what is left of the old division is worth nothing, before and after (RFC
// 7383 section 2.6).
func TestReassemblyRefragmented(t *testing.T) {
	out, in := newProtector(t, suiteGCM), newProtector(t, suiteGCM)
	large, small := fragments(t, out, chain(2000), 900), fragments(t, out, chain(2000), 500)
	if len(large) >= len(small) {
		t.Fatalf("%d and %d fragments", len(large), len(small))
	}
	var r Reassembly
	add(t, &r, in, large[1], large[0])
	add(t, &r, in, small[2])
	if r.Pending() != 1 {
		t.Errorf("%d fragments kept", r.Pending())
	}
	refused(t, &r, in, large[2], ErrFragmentStale)
	if inner := add(t, &r, in, small[0], small[3], small[1], small[4]); !reflect.DeepEqual(inner, chain(2000)) {
		t.Error("another message came out")
	}
}

// Retransmissions have other IVs, but the same content: they mix.
func TestReassemblyRetransmission(t *testing.T) {
	out, in := newProtector(t, suiteCBC), newProtector(t, suiteCBC)
	first, second := fragments(t, out, chain(1000), 500), fragments(t, out, chain(1000), 500)
	var r Reassembly
	add(t, &r, in, first[0])
	refused(t, &r, in, second[0], ErrFragmentStale)
	if inner := add(t, &r, in, second[1], first[2]); !reflect.DeepEqual(inner, chain(1000)) {
		t.Error("another message came out")
	}
}

// A later message takes the place of one that never became complete, an
// earlier one doesn't, and nothing of the same number under another header.
func TestReassemblyOfOneMessage(t *testing.T) {
	out, in := newProtector(t, suiteGCM), newProtector(t, suiteGCM)
	sealed := func(id uint32, change func(*ikewire.Header)) [][]byte {
		m := request()
		m.MessageID = id
		change(&m.Header)
		raws, err := out.SealFragments(m, chain(1000), 600)
		if err != nil {
			t.Fatal(err)
		}
		return raws
	}
	same := func(*ikewire.Header) {}
	var r Reassembly
	add(t, &r, in, sealed(5, same)[0])
	refused(t, &r, in, sealed(4, same)[1], ErrFragmentStale)
	refused(t, &r, in, sealed(5, func(h *ikewire.Header) { h.Exchange = ikewire.IKEAuth })[1], ErrFragmentStale)
	refused(t, &r, in, sealed(5, func(h *ikewire.Header) { h.Flags |= ikewire.FlagResponse })[1], ErrFragmentStale)
	refused(t, &r, in, sealed(5, func(h *ikewire.Header) { h.ResponderSPI++ })[1], ErrFragmentStale)

	later := sealed(6, same)
	forged := bytes.Clone(later[1])
	forged[len(forged)-1] ^= 1
	refused(t, &r, in, forged, ErrIntegrity) // a forgery can't clear the collection
	if inner := add(t, &r, in, later[1], later[0]); !reflect.DeepEqual(inner, chain(1000)) {
		t.Error("another message came out")
	}
	add(t, &r, in, sealed(7, same)[0])
	r.Reset()
	if r.Pending() != 0 {
		t.Errorf("%d fragments kept after Reset", r.Pending())
	}
}

// craft seals a fragment as a peer could that knows the keys and means harm.
func craft(t testing.TB, p Protector, number, total uint16, first ikewire.PayloadType, content []byte) []byte {
	t.Helper()
	raw, err := p.(*protector).seal(nil, request(), ikewire.Encrypted{First: first, Fragment: number, Total: total}, content, newDraft())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestReassemblyLimits(t *testing.T) {
	out, in := newProtector(t, suiteGCM), newProtector(t, suiteGCM)
	var r Reassembly
	for _, total := range []uint16{MaxFragments + 1, 65535} {
		refused(t, &r, in, craft(t, out, 1, total, ikewire.PayloadVendor, []byte("x")), ErrFragmentLimit)
	}
	if r.parts != nil {
		t.Error("memory for what was refused")
	}
	// The last allowed number of fragments, and of octets.
	data := make([]byte, MaxReassembly/MaxFragments)
	for i := range uint16(MaxFragments) {
		first, content := ikewire.PayloadNone, data
		if i == 0 {
			first, content = ikewire.PayloadVendor, bytes.Clone(data)
			binary.BigEndian.PutUint16(content[2:], 65535) // one octet short of all
		}
		raw := craft(t, out, i+1, MaxFragments, first, content)
		_, complete, err := r.Add(in, raw, parse(t, raw))
		if i+1 < MaxFragments && (err != nil || complete) {
			t.Fatalf("fragment %d: complete %v, error %v", i+1, complete, err)
		}
		if i+1 == MaxFragments && (!complete || !errors.Is(err, ikewire.ErrLength)) {
			t.Errorf("complete %v, error %v", complete, err)
		}
	}
	// One octet more.
	half := make([]byte, MaxReassembly/2)
	add(t, &r, in, craft(t, out, 1, 3, ikewire.PayloadVendor, half), craft(t, out, 2, 3, ikewire.PayloadNone, half))
	raw := craft(t, out, 3, 3, ikewire.PayloadNone, []byte{1})
	if _, complete, err := r.Add(in, raw, parse(t, raw)); !errors.Is(err, ErrFragmentLimit) || complete || r.Pending() != 0 || r.parts != nil {
		t.Errorf("%d fragments kept, error %v", r.Pending(), err)
	}
}

// Authentic, but nonsense inside: complete, and answered INVALID_SYNTAX.
func TestReassemblySyntax(t *testing.T) {
	out, in := newProtector(t, suiteCBC), newProtector(t, suiteCBC)
	var r Reassembly
	add(t, &r, in, craft(t, out, 2, 2, ikewire.PayloadNone, []byte{0}))
	raw := craft(t, out, 1, 2, ikewire.PayloadKE, []byte{0, 0, 0})
	inner, complete, err := r.Add(in, raw, parse(t, raw))
	if !complete || inner != nil || !errors.Is(err, ikewire.ErrLength) {
		t.Errorf("payloads %v, complete %v, error %v", inner, complete, err)
	}
	// The padding of one fragment is enough.
	add(t, &r, in, craft(t, out, 1, 2, ikewire.PayloadVendor, unhex("00000005 78")))
	m := request()
	m.Payloads = []ikewire.Payload{&ikewire.Encrypted{Fragment: 2, Total: 2, Body: bytes.Repeat([]byte{200}, 64)}}
	raw, err = m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.(*protector).transform.seal(raw, len(raw)-64); err != nil {
		t.Fatal(err)
	}
	inner, complete, err = r.Add(in, raw, parse(t, raw))
	if !complete || inner != nil || !errors.Is(err, ikewire.ErrLength) || r.Pending() != 0 {
		t.Errorf("padding: payloads %v, complete %v, error %v", inner, complete, err)
	}
	// A single fragment, and empty ones, are unusual but nothing is wrong.
	if inner := add(t, &r, in, craft(t, out, 1, 1, ikewire.PayloadVendor, unhex("00000005 78"))); len(inner) != 1 {
		t.Errorf("one of one: %v", inner)
	}
	empty := craft(t, out, 2, 2, ikewire.PayloadNone, nil)
	add(t, &r, in, empty)
	refused(t, &r, in, empty, ErrFragmentStale)
	if inner := add(t, &r, in, craft(t, out, 1, 2, ikewire.PayloadVendor, unhex("00000005 78"))); len(inner) != 1 {
		t.Errorf("with an empty one: %v", inner)
	}
}

func TestReassemblyRefuses(t *testing.T) {
	p := newProtector(t, suiteGCM)
	var r Reassembly
	whole, _ := seal(t, p, request(), chain(10)...)
	refused(t, &r, p, whole, ErrNotFragment)
	if _, _, err := r.Add(p, nil, request()); !errors.Is(err, ErrNotEncrypted) {
		t.Errorf("no payload: %v", err)
	}
	// A message that no parser would make.
	for _, sk := range []*ikewire.Encrypted{{Fragment: 0, Total: 2}, {Fragment: 3, Total: 2}} {
		m := request()
		m.Payloads = []ikewire.Payload{sk}
		if _, _, err := r.Add(p, make([]byte, 100), m); !errors.Is(err, ErrFragmentLimit) {
			t.Errorf("%d of %d: %v", sk.Fragment, sk.Total, err)
		}
	}
}

// A peer that knows the keys sends fragments of any number, total, message ID
// and content, as the fuzzer's octets say: the bounds hold, and what comes out
// is what went in.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{1, 2, 0, 5, 0, 0, 0, 9, 1, 2, 2, 0, 4, 1, 2, 3, 4})
	f.Add([]byte{1, 64, 0, 0, 2, 65, 0, 0, 3, 3, 1, 1, 7})
	f.Add([]byte{1, 2, 48, 0, 0, 0, 48, 48})
	f.Add([]byte{2, 2, 0, 0, 1, 2, 0, 1, 0, 1, 1, 0, 0, 3, 4, 250, 0})
	out, in := newProtector(f, suiteGCM), newProtector(f, suiteGCM)
	f.Fuzz(func(t *testing.T, script []byte) {
		var r Reassembly
		for len(script) >= 4 {
			number, total, id, n := uint16(script[0]), uint16(script[1]), uint32(script[2]), int(script[3])
			script = script[4:]
			n = min(n, len(script))
			content := script[:n]
			if n > 200 {
				content = bytes.Repeat(content, 100)
			}
			script = script[n:]
			first := ikewire.PayloadNone
			if number == 1 {
				first = ikewire.PayloadVendor
			}
			m := request()
			m.MessageID = id
			raw, err := out.(*protector).seal(nil, m, ikewire.Encrypted{First: first, Fragment: number, Total: total}, content, newDraft())
			if err != nil {
				continue // no such fragment can be written
			}
			if total == 0 {
				refused(t, &r, in, raw, ErrNotFragment)
				continue
			}
			parsed := parse(t, raw)
			if r.collecting(&parsed.Header) && total < r.total {
				refused(t, &r, in, raw, ErrFragmentStale)
				continue
			}
			before := r.have
			_, complete, err := r.Add(in, raw, parsed)
			if complete && r.total != 0 || err == nil && !complete && r.have != before+1 && r.have != 1 {
				t.Fatalf("complete %v, error %v, %d kept, %d before", complete, err, r.have, before)
			}
			kept, octets := 0, 0
			for _, part := range r.parts {
				if part != nil {
					kept, octets = kept+1, octets+cap(part)
				}
			}
			if kept != r.have || octets != r.octets || octets > MaxReassembly || len(r.parts) > MaxFragments || len(r.parts) != int(r.total) || kept > 0 && kept == int(r.total) {
				t.Fatalf("%d kept with %d octets: %d of %d, %d octets", kept, octets, r.have, r.total, r.octets)
			}
		}
	})
}

// Octets from the network that nobody sealed never get into a collection.
func FuzzReassemblyForged(f *testing.F) {
	p := newProtector(f, suiteGCM)
	sealed := make(map[string]bool)
	raws := fragments(f, p, chain(300), 300)
	for _, raw := range raws {
		sealed[string(raw)] = true
		f.Add(raw)
		f.Add(raw[:len(raw)-1])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ikewire.Parse(raw)
		if err != nil {
			return
		}
		var r Reassembly
		if _, _, err := r.Add(p, raw, m); err == nil && !sealed[string(raw)] {
			t.Errorf("accepted %x", raw)
		}
		if r.Pending() > 0 && !sealed[string(raw)] || r.Pending() == 0 && r.parts != nil {
			t.Errorf("kept %d fragments of %x", r.Pending(), raw)
		}
	})
}
