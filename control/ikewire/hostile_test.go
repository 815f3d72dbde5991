package ikewire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// one wraps a body into the only payload of a chain.
func one(body ...byte) []byte {
	b := []byte{0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(4+len(body)))
	return append(b, body...)
}

// Every way in which a payload can lie is told by its reason and place.
func TestHostilePayloads(t *testing.T) {
	sa := func(s string) []byte { return one(unhex(s)...) }
	for _, test := range []struct {
		name   string
		first  PayloadType
		octets []byte
		want   error
		offset int
	}{
		{"no room for a header", PayloadNonce, []byte{0, 0, 0}, ErrTruncated, 0},
		{"header says less than itself", PayloadNonce, []byte{0, 0, 0, 3}, ErrLength, 2},
		{"header says more than there is", PayloadVendor, []byte{0, 0, 0, 5}, ErrTruncated, 2},
		{"octets after the chain", PayloadVendor, append(one(1), 9), ErrLength, 5},
		{"octets without a chain", PayloadNone, []byte{0}, ErrLength, 0},
		{"encrypted inside encrypted", PayloadEncrypted, one(1, 2, 3), ErrSyntax, 0},
		{"fragment inside encrypted", PayloadFragment, one(0, 1, 0, 1), ErrSyntax, 0},
		{"nonce of 15", PayloadNonce, one(make([]byte, 15)...), ErrLength, 4},
		{"nonce of 257", PayloadNonce, one(make([]byte, 257)...), ErrLength, 4},
		{"KE without group", PayloadKE, one(0, 31, 0), ErrTruncated, 7},
		{"ID without type", PayloadIDr, one(2, 0, 0), ErrTruncated, 7},
		{"CERT without encoding", PayloadCert, one(), ErrTruncated, 4},
		{"CERTREQ without encoding", PayloadCertReq, one(), ErrTruncated, 4},
		{"CERTREQ with half a hash", PayloadCertReq, one(append([]byte{4}, make([]byte, 30)...)...), ErrLength, 5},
		{"AUTH without method", PayloadAuth, one(14, 0), ErrTruncated, 6},
		{"notify without type", PayloadNotify, one(0, 0, 64), ErrTruncated, 7},
		{"notify with an SPI that isn't there", PayloadNotify, one(3, 4, 0, 11, 1, 2, 3), ErrTruncated, 5},
		{"delete of nothing known", PayloadDelete, one(7, 4, 0, 0), ErrSyntax, 4},
		{"delete header cut", PayloadDelete, one(3, 4, 0), ErrTruncated, 7},
		{"delete of ESP with SPIs of 8", PayloadDelete, one(3, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), ErrSyntax, 5},
		{"delete of an IKE SA with SPIs", PayloadDelete, one(1, 0, 0, 1), ErrSyntax, 6},
		{"delete with fewer SPIs than counted", PayloadDelete, one(3, 4, 0, 2, 1, 2, 3, 4), ErrLength, 6},
		{"CP header cut", PayloadCP, one(1, 0, 0), ErrTruncated, 7},
		{"CP attribute cut", PayloadCP, one(1, 0, 0, 0, 0, 1, 0), ErrTruncated, 8},
		{"CP value cut", PayloadCP, one(1, 0, 0, 0, 0, 1, 0, 4, 9), ErrTruncated, 10},
		{"TS header cut", PayloadTSi, one(1, 0, 0), ErrTruncated, 7},
		{"TS with none", PayloadTSi, one(0, 0, 0, 0), ErrSyntax, 4},
		{"TS with fewer than counted", PayloadTSr, one(1, 0, 0, 0), ErrTruncated, 8},
		{"TS with more than counted", PayloadTSr, one(0, 0, 0, 0, 7, 0, 0, 16), ErrLength, 8},
		{"selector shorter than its header", PayloadTSi, sa("01000000 07 00 0007 0000 ffff"), ErrLength, 10},
		{"selector cut", PayloadTSi, sa("01000000 07 00 0010 0000 ffff 00000000"), ErrTruncated, 10},
		{"IPv4 selector of an IPv6 length", PayloadTSi, sa("01000000 07 00 0014 0000 ffff 00000000 ffffffff ffffffff"), ErrLength, 10},
		{"addresses the wrong way round", PayloadTSi, sa("01000000 07 00 0010 0000 ffff 0a000002 0a000001"), ErrSyntax, 8},
		{"ports the wrong way round", PayloadTSi, sa("01000000 07 06 0010 0050 0016 0a000001 0a000001"), ErrSyntax, 8},
		{"SA without proposal", PayloadSA, one(), ErrTruncated, 4},
		{"proposal header cut", PayloadSA, one(0, 0, 0, 8, 1, 1, 0), ErrTruncated, 4},
		{"proposal shorter than its header", PayloadSA, one(0, 0, 0, 7, 1, 1, 0, 0), ErrLength, 6},
		{"proposal shorter than its SPI", PayloadSA, one(0, 0, 0, 8, 1, 3, 4, 0), ErrLength, 6},
		{"proposal longer than the payload", PayloadSA, one(0, 0, 0, 9, 1, 1, 0, 0), ErrTruncated, 6},
		{"proposal neither last nor followed", PayloadSA, one(3, 0, 0, 8, 1, 1, 0, 0), ErrSyntax, 4},
		{"more proposals announced", PayloadSA, one(2, 0, 0, 8, 1, 1, 0, 0), ErrTruncated, 12},
		{"octets after the last proposal", PayloadSA, one(0, 0, 0, 8, 1, 1, 0, 0, 1), ErrLength, 12},
		{"transforms announced, none there", PayloadSA, one(0, 0, 0, 8, 1, 1, 0, 1), ErrTruncated, 12},
		{"transform not announced", PayloadSA, sa("00 00 0010 01 01 00 00 00 00 0008 02 00 0005"), ErrLength, 12},
		{"transform shorter than its header", PayloadSA, sa("00 00 0010 01 01 00 01 00 00 0007 02 00 0005"), ErrLength, 14},
		{"transform longer than the proposal", PayloadSA, sa("00 00 0010 01 01 00 01 00 00 000c 02 00 0005"), ErrTruncated, 14},
		{"last transform promises another", PayloadSA, sa("00 00 0010 01 01 00 01 03 00 0008 02 00 0005"), ErrSyntax, 12},
		{"attribute cut", PayloadSA, sa("00 00 0013 01 01 00 01 00 00 000b 01 00 000c 800e 00"), ErrTruncated, 20},
		{"attribute longer than the transform", PayloadSA, sa("00 00 0014 01 01 00 01 00 00 000c 01 00 000c 000e 0002"), ErrTruncated, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			ps, err := ParsePayloads(test.first, test.octets)
			if !errors.Is(err, test.want) {
				t.Fatalf("payloads %+v, error %v, want %v", ps, err, test.want)
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Offset != test.offset {
				t.Errorf("error %v, want octet %d", err, test.offset)
			}
		})
	}
}

func TestHostileMessages(t *testing.T) {
	change := func(f func([]byte) []byte) []byte { return f(bytes.Clone(initRequest)) }
	for _, test := range []struct {
		name   string
		octets []byte
		want   error
		text   string
	}{
		{"nothing", nil, ErrTruncated, "ikewire: message, octet 0: IKE header: truncated"},
		{"27 octets", initRequest[:27], ErrTruncated, "octet 27"},
		{"IKEv1", change(func(b []byte) []byte { b[17] = 0x10; return b }), ErrVersion, "version 1"},
		{"length too small", change(func(b []byte) []byte { b[27]--; return b }), ErrLength, "octet 24"},
		{"length of 4 GiB", change(func(b []byte) []byte { copy(b[24:], "\xff\xff\xff\xff"); return b }), ErrLength, "octet 24"},
		{"cut", change(func(b []byte) []byte { b[26], b[27] = 1, 0; return b[:256] }), ErrTruncated, "V payload, octet 248"},
		{"payload behind SK", unhex(`0102030405060708 1112131415161718 2e 20 25 08 00000002 0000002a
			29 00 0006 0001 00 00 0008 00 00 4000`), ErrLength, "SK payload, octet 30"},
		{"fragment 0", unhex(`0102030405060708 1112131415161718 35 20 23 08 00000001 00000024
			23 00 0008 0000 0003`), ErrSyntax, "SKF payload, octet 32"},
		{"fragment 4 of 3", unhex(`0102030405060708 1112131415161718 35 20 23 08 00000001 00000024
			00 00 0008 0004 0003`), ErrSyntax, "SKF payload, octet 32"},
		{"fragment 2 with a next payload", unhex(`0102030405060708 1112131415161718 35 20 23 08 00000001 00000024
			23 00 0008 0002 0003`), ErrSyntax, "SKF payload, octet 32"},
		{"fragment header cut", unhex(`0102030405060708 1112131415161718 35 20 23 08 00000001 00000022
			00 00 0006 0001`), ErrTruncated, "SKF payload, octet 34"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.octets)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v, want %v with %q", err, test.want, test.text)
			}
		})
	}
}

// A message may be as large as UDP allows; what it makes us allocate is not a
// matter for the sender.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name    string
		payload func(n int) Payload
		limit   int
	}{
		{"proposals", func(n int) Payload {
			return &SA{Proposals: slices.Repeat([]Proposal{{Protocol: ProtocolIKE}}, n)}
		}, MaxProposals},
		{"transforms", func(n int) Payload {
			p := Proposal{Protocol: ProtocolIKE, Transforms: make([]Transform, 64)}
			last := Proposal{Protocol: ProtocolIKE, Transforms: make([]Transform, n%64)}
			return &SA{Proposals: append(slices.Repeat([]Proposal{p}, n/64), last)}
		}, MaxTransforms},
		{"attributes", func(n int) Payload { return &CP{Attributes: make([]ConfigAttribute, n)} }, MaxConfigAttributes},
		{"SPIs", func(n int) Payload { return &Delete{Protocol: ProtocolESP, SPIs: make([]uint32, n)} }, MaxDeleteSPIs},
	} {
		t.Run(test.name, func(t *testing.T) {
			for n, want := range map[int]error{test.limit: nil, test.limit + 1: ErrTooMany} {
				p := test.payload(n)
				first, octets, err := AppendPayloads(nil, []Payload{p})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := ParsePayloads(first, octets); !errors.Is(err, want) {
					t.Errorf("%d: error %v, want %v", n, err, want)
				}
			}
		})
	}
	for n, want := range map[int]error{MaxPayloads: nil, MaxPayloads + 1: ErrTooMany} {
		first, octets, err := AppendPayloads(nil, slices.Repeat([]Payload{&Vendor{}}, n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePayloads(first, octets); !errors.Is(err, want) {
			t.Errorf("%d payloads: error %v, want %v", n, err, want)
		}
	}
}

// What can't be written is refused, and dst comes back as it was.
func TestUnwritable(t *testing.T) {
	addr := netip.MustParseAddr
	big := make([]byte, 1<<16)
	for _, test := range []struct {
		name    string
		payload Payload
		want    error
	}{
		{"payload of 64 KiB", &Vendor{Data: big}, ErrLength},
		{"short nonce", &Nonce{}, ErrLength},
		{"SPI of 256", &Notify{SPI: make([]byte, 256)}, ErrLength},
		{"unknown payload of type 0", &Unknown{}, ErrSyntax},
		{"half a hash", &CertReq{Encoding: CertX509Signature, Data: make([]byte, 10)}, ErrLength},
		{"delete without protocol", &Delete{}, ErrSyntax},
		{"delete of an IKE SA by SPI", &Delete{Protocol: ProtocolIKE, SPIs: []uint32{1}}, ErrSyntax},
		{"delete of 65,536", &Delete{Protocol: ProtocolESP, SPIs: make([]uint32, 1<<16)}, ErrLength},
		{"SA without proposal", &SA{}, ErrSyntax},
		{"proposal with 256 transforms", &SA{Proposals: []Proposal{{Transforms: make([]Transform, 256)}}}, ErrLength},
		{"attribute type of 16 bits", &CP{Attributes: []ConfigAttribute{{Type: 0x8000}}}, ErrSyntax},
		{"attribute of 64 KiB", &CP{Attributes: []ConfigAttribute{{Value: big}}}, ErrLength},
		{"no selector", &TS{}, ErrSyntax},
		{"256 selectors", &TS{Selectors: make([]TrafficSelector, 256)}, ErrSyntax},
		{"selector without address", &TS{Selectors: []TrafficSelector{{}}}, ErrSyntax},
		{"selector of two families", &TS{Selectors: []TrafficSelector{{First: addr("10.0.0.0"), Last: addr("::1")}}}, ErrSyntax},
		{"selector with a zone", &TS{Selectors: []TrafficSelector{{First: addr("fe80::1%a"), Last: addr("fe80::1%a")}}}, ErrSyntax},
		{"fragment 2 of 1", &Encrypted{Fragment: 2, Total: 1}, ErrSyntax},
		{"fragment of nothing", &Encrypted{Fragment: 1}, ErrSyntax},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := Message{Payloads: []Payload{&Vendor{}, test.payload}}
			out, err := m.Append([]byte("before"))
			if !errors.Is(err, test.want) || string(out) != "before" {
				t.Errorf("octets %q, error %v, want %v", out, err, test.want)
			}
		})
	}
	m := Message{Payloads: []Payload{&Encrypted{}, &Vendor{}}}
	if _, err := m.Append(nil); !errors.Is(err, ErrSyntax) {
		t.Errorf("payload behind SK: %v", err)
	}
}
