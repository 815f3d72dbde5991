package ikecrypto

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// chain is an AUTH message's worth of payloads of about n octets, with numbers
// in it that show what is where.
func chain(n int) []ikewire.Payload {
	data := make([]byte, n)
	for i := range len(data) / 4 {
		binary.BigEndian.PutUint32(data[4*i:], uint32(i))
	}
	return []ikewire.Payload{
		&ikewire.ID{Initiator: true, IDType: ikewire.IDFQDN, Data: []byte("dev1")},
		&ikewire.Vendor{Data: data[:n/2]},
		&ikewire.Vendor{Data: data[n/2:]},
	}
}

func fragments(t testing.TB, p Protector, inner []ikewire.Payload, size int) [][]byte {
	t.Helper()
	out, err := p.SealFragments(request(), inner, size)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parse(t testing.TB, raw []byte) *ikewire.Message {
	t.Helper()
	m, err := ikewire.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// For each algorithm and many sizes: no fragment is longer than asked for, none
// could have taken an octet more, and together they are the message.
func TestSealFragments(t *testing.T) {
	inner := chain(4000)
	_, content, err := ikewire.AppendPayloads(nil, inner)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range suites() {
		t.Run(s.String(), func(t *testing.T) {
			out, in := newProtector(t, s), newProtector(t, s)
			_, align, _ := out.(*protector).transform.lens()
			for _, size := range []int{161, 200, 255, 576 - 32, 1000, 1001, 1280 - 52, 3999, 4000} {
				raws := fragments(t, out, inner, size)
				var got []byte
				for i, raw := range raws {
					if len(raw) > size || i+1 < len(raws) && len(raw) <= size-align {
						t.Errorf("size %d: fragment %d of %d has %d octets", size, i+1, len(raws), len(raw))
					}
					f, err := in.OpenFragment(raw, parse(t, raw))
					if err != nil {
						t.Fatal(err)
					}
					wantFirst := ikewire.PayloadNone
					if i == 0 {
						wantFirst = ikewire.PayloadIDi
					}
					if int(f.Number) != i+1 || int(f.Total) != len(raws) || f.First != wantFirst {
						t.Errorf("size %d: fragment %d/%d, first %s", size, f.Number, f.Total, f.First)
					}
					got = append(got, f.Data...)
				}
				if !bytes.Equal(got, content) {
					t.Errorf("size %d: content differs", size)
				}
			}
		})
	}
}

// What fits goes as one SK payload, to the octet.
func TestSealFragmentsNotNeeded(t *testing.T) {
	for _, s := range suites() {
		p := newProtector(t, s)
		whole, m := seal(t, p, request(), chain(500)...)
		raws := fragments(t, p, chain(500), len(whole))
		if len(raws) != 1 || len(raws[0]) != len(whole) {
			t.Fatalf("%s: %d messages, the first of %d octets", s, len(raws), len(raws[0]))
		}
		if inner, err := p.Open(raws[0], parse(t, raws[0])); err != nil || !reflect.DeepEqual(inner, chain(500)) {
			t.Errorf("%s: payloads %v, error %v", s, inner, err)
		}
		if raws = fragments(t, p, chain(500), len(whole)-1); len(raws) != 2 {
			t.Errorf("%s: one octet less: %d messages", s, len(raws))
		}
		if _, err := p.OpenFragment(whole, m); !errors.Is(err, ErrNotFragment) {
			t.Errorf("%s: SK taken for a fragment: %v", s, err)
		}
		if _, err := p.Open(raws[0], parse(t, raws[0])); !errors.Is(err, ErrFragment) {
			t.Errorf("%s: a fragment taken for SK: %v", s, err)
		}
	}
}

// The layout of RFC 7383 section 2.5 by hand: the fragment header is
// authenticated, and each fragment is padded for itself.
func TestFragmentLayout(t *testing.T) {
	raws := fragments(t, newProtector(t, suiteGCM), chain(200), 150)
	const head = ikewire.HeaderLen + ikewire.PayloadHeaderLen + 4
	key := nistKeys[32:52]
	gcm, err := newGCM(key[:16])
	if err != nil {
		t.Fatal(err)
	}
	for i, raw := range raws {
		next := byte(ikewire.PayloadNone)
		if i == 0 {
			next = byte(ikewire.PayloadIDi)
		}
		if raw[16] != byte(ikewire.PayloadFragment) || raw[ikewire.HeaderLen] != next {
			t.Errorf("fragment %d: next payloads %d and %d", i+1, raw[16], raw[ikewire.HeaderLen])
		}
		if !bytes.Equal(raw[head-4:head], []byte{0, byte(i + 1), 0, byte(len(raws))}) {
			t.Errorf("fragment %d: header %x", i+1, raw[head-4:head])
		}
		iv := raw[head : head+8]
		if binary.BigEndian.Uint64(iv) != uint64(i) {
			t.Errorf("fragment %d: IV %x", i+1, iv)
		}
		plain, err := gcm.Open(nil, slices.Concat(key[16:], iv), raw[head+8:], raw[:head])
		if err != nil {
			t.Fatal(err)
		}
		if plain[len(plain)-1] != 0 {
			t.Errorf("fragment %d: padding of %d", i+1, plain[len(plain)-1])
		}
	}
}

// No IV comes twice under one key, whether messages go whole or in fragments,
// and whether or not they could be sealed.
func TestFragmentIVs(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteChaCha} {
		p := newProtector(t, s)
		ivs := make(map[uint64]bool)
		use := func(raw []byte, head int) {
			iv := binary.BigEndian.Uint64(raw[head:])
			if ivs[iv] {
				t.Fatalf("%s: IV %d twice", s, iv)
			}
			ivs[iv] = true
		}
		for range 20 {
			for _, raw := range fragments(t, p, chain(2000), 300) {
				use(raw, ikewire.HeaderLen+ikewire.PayloadHeaderLen+4)
			}
			whole, _ := seal(t, p, request())
			use(whole, ikewire.HeaderLen+ikewire.PayloadHeaderLen)
			if out, err := p.SealFragments(request(), chain(2000), 70); err == nil {
				t.Fatalf("%s: %d fragments", s, len(out))
			}
		}
		p.(*protector).transform.(*aead).next = 1<<64 - 3
		if out, err := p.SealFragments(request(), chain(2000), 300); !errors.Is(err, ErrExhausted) || out != nil {
			t.Errorf("%s: counter at its end: %v", s, err)
		}
	}
}

// Cleartext payloads are in the first fragment (RFC 7383 section 2.5.3), whose
// room they take.
func TestFragmentCleartext(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteCBC} {
		p := newProtector(t, s)
		m := request()
		m.Payloads = []ikewire.Payload{&ikewire.Vendor{Data: []byte("in the clear")}}
		raws, err := p.SealFragments(m, chain(1000), 400)
		if err != nil || len(m.Payloads) != 1 {
			t.Fatal(err)
		}
		for i, raw := range raws {
			if len(raw) > 400 || bytes.Contains(raw, []byte("in the clear")) != (i == 0) {
				t.Errorf("%s: fragment %d of %d octets", s, i+1, len(raw))
			}
			if _, err := p.OpenFragment(raw, parse(t, raw)); err != nil {
				t.Error(err)
			}
		}
		m.Payloads = []ikewire.Payload{&ikewire.Vendor{Data: make([]byte, 400)}}
		if _, err := p.SealFragments(m, chain(1000), 400); !errors.Is(err, ErrFragmentSize) {
			t.Errorf("%s: no room beside it: %v", s, err)
		}
	}
}

func TestSealFragmentsRefuses(t *testing.T) {
	for _, s := range suites() {
		p := newProtector(t, s)
		for _, size := range []int{-1, 0, ikewire.HeaderLen, 60} {
			if out, err := p.SealFragments(request(), chain(100), size); !errors.Is(err, ErrFragmentSize) || out != nil {
				t.Errorf("%s: size %d: %d fragments, error %v", s, size, len(out), err)
			}
		}
		if _, err := p.SealFragments(request(), chain(60000), 544); !errors.Is(err, ErrFragmentSize) {
			t.Errorf("%s: more than %d fragments: %v", s, MaxFragments, err)
		}
		if _, err := p.SealFragments(request(), []ikewire.Payload{&ikewire.Nonce{}}, 544); err == nil {
			t.Errorf("%s: an unwritable payload was written", s)
		}
		p.Erase()
		if _, err := p.SealFragments(request(), chain(100), 1000); !errors.Is(err, ErrErased) {
			t.Errorf("%s: after Erase: %v", s, err)
		}
	}
}

// Each bit of a fragment is protected, its number and total first of all.
func TestFragmentTampered(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteCBC, suiteChaCha, suiteOld} {
		in := newProtector(t, s)
		raw := fragments(t, newProtector(t, s), chain(200), 200)[1]
		m := parse(t, raw)
		for i := range raw {
			raw[i] ^= 1
			if f, err := in.OpenFragment(raw, m); !errors.Is(err, ErrIntegrity) || f.Data != nil {
				t.Fatalf("%s: octet %d: %+v, error %v", s, i, f, err)
			}
			raw[i] ^= 1
		}
		if _, err := in.OpenFragment(raw, m); err != nil {
			t.Errorf("%s: intact: %v", s, err)
		}
		if _, err := in.OpenFragment(nil, request()); !errors.Is(err, ErrNotEncrypted) {
			t.Errorf("%s: no payload: %v", s, err)
		}
		in.Erase()
		if _, err := in.OpenFragment(raw, m); !errors.Is(err, ErrErased) {
			t.Errorf("%s: after Erase: %v", s, err)
		}
	}
}

// With a source of randomness that ends, nothing half-sealed comes out.
func TestFragmentsDrySource(t *testing.T) {
	k, err := DeriveKeys(suiteCBC, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
	if err != nil {
		t.Fatal(err)
	}
	ivs := make([]byte, 2*16)
	if _, err := rand.Read(ivs); err != nil {
		t.Fatal(err)
	}
	p, err := NewProtector(suiteCBC, k.Ei, k.Ai, bytes.NewReader(ivs))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := p.SealFragments(request(), chain(1000), 300); err == nil || out != nil {
		t.Errorf("%d fragments, error %v", len(out), err)
	}
}
