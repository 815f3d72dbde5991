package ikewire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// unhex reads hexadecimal octets; blanks are for the reader.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// initRequest is an IKE_SA_INIT request as a strongSwan client sends it.
var initRequest = unhex(`
	0102030405060708 0000000000000000 21 20 22 08 00000000 0000010c
	22 00 0054
	  02 00 0024 01 01 00 03
	    03 00 000c 01 00 0014 800e 0080
	    03 00 0008 02 00 0005
	    00 00 0008 04 00 001f
	  00 00 002c 02 01 00 04
	    03 00 000c 01 00 000c 800e 0100
	    03 00 0008 03 00 000c
	    03 00 0008 02 00 0005
	    00 00 0008 04 00 0013
	28 00 0028 001f 0000
	  a0a1a2a3a4a5a6a7a8a9aaabacadaeaf b0b1b2b3b4b5b6b7b8b9babbbcbdbebf
	29 00 0024
	  c0c1c2c3c4c5c6c7c8c9cacbcccdcecf d0d1d2d3d4d5d6d7d8d9dadbdcdddedf
	29 00 001c 00 00 4004 e0e1e2e3e4e5e6e7e8e9eaebecedeeefe0e1e2e3
	29 00 0008 00 00 402e
	29 00 000e 00 00 402f 0002 0003 0004
	2b 00 0008 00 00 4016
	00 00 0016 4d79206f776e2076656e646f7220494400ff`)

// authRequest are the payloads inside an IKE_AUTH request of the same client.
var (
	authFirst   = PayloadIDi
	authRequest = unhex(`
	25 00 0012 02 000000 64657631 2e746573 7420
	29 00 000d 04 3082010a3081f0a0
	26 00 0008 00 00 4000
	24 00 0019 04 000102030405060708090a0b0c0d0e0f10111213
	27 00 000c 01 000000 0a010001
	2f 00 0014 0e 000000 0a300a06 082a8648 ce3d0403
	21 00 0018 01 000000 0001 0000 0003 0000 0004 0004 ffffffff
	2c 00 002c
	  00 00 0028 01 03 04 03 c1c2c3c4
	    03 00 000c 01 00 0014 800e 0080
	    03 00 0008 05 00 0000
	    00 00 0008 05 00 0001
	2d 00 0040 02 000000
	  07 00 0010 0000 ffff 00000000 ffffffff
	  08 00 0028 0000 ffff 00000000000000000000000000000000 ffffffffffffffffffffffffffffffff
	29 00 0018 01 000000 07 11 0010 01f4 01f4 c0a80000 c0a800ff
	29 00 0008 00 00 400c
	29 00 000c 00 00 400d 0a020001
	2a 00 0008 00 00 4021
	30 00 0010 03 04 0002 11111111 22222222
	00 00 0009 01 02 0005 01`)
)

// initMessage is initRequest as it should be read.
func initMessage() *Message {
	return &Message{
		Header: Header{
			InitiatorSPI: 0x0102030405060708,
			NextPayload:  PayloadSA,
			Version:      Version2,
			Exchange:     IKESAInit,
			Flags:        FlagInitiator,
			Length:       268,
		},
		Payloads: []Payload{
			&SA{Proposals: []Proposal{
				{Number: 1, Protocol: ProtocolIKE, SPI: []byte{}, Transforms: []Transform{
					{Type: TransformENCR, ID: EncrAESGCM16, KeyBits: 128},
					{Type: TransformPRF, ID: PRFHMACSHA256},
					{Type: TransformKE, ID: GroupCurve25519},
				}},
				{Number: 2, Protocol: ProtocolIKE, SPI: []byte{}, Transforms: []Transform{
					{Type: TransformENCR, ID: EncrAESCBC, KeyBits: 256},
					{Type: TransformINTEG, ID: IntegHMACSHA256},
					{Type: TransformPRF, ID: PRFHMACSHA256},
					{Type: TransformKE, ID: GroupECP256},
				}},
			}},
			&KE{Group: GroupCurve25519, Data: unhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf")},
			&Nonce{Data: unhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf")},
			&Notify{SPI: []byte{}, NotifyType: NotifyNATDetectionSourceIP, Data: unhex("e0e1e2e3e4e5e6e7e8e9eaebecedeeefe0e1e2e3")},
			&Notify{SPI: []byte{}, NotifyType: NotifyFragmentationSupported, Data: []byte{}},
			&Notify{SPI: []byte{}, NotifyType: NotifySignatureHashAlgorithms, Data: unhex("000200030004")},
			&Notify{SPI: []byte{}, NotifyType: NotifyRedirectSupported, Data: []byte{}},
			&Vendor{Data: []byte("My own vendor ID\x00\xff")},
		},
	}
}

func TestParseInitRequest(t *testing.T) {
	m, err := Parse(initRequest)
	if err != nil {
		t.Fatal(err)
	}
	if want := initMessage(); !reflect.DeepEqual(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
	if m.IsResponse() || !m.FromInitiator() {
		t.Errorf("flags %#x", m.Flags)
	}
	if ke, ok := Find[*KE](m.Payloads); !ok || ke.Group != GroupCurve25519 {
		t.Errorf("KE not found")
	}
	if _, ok := Find[*Auth](m.Payloads); ok {
		t.Error("AUTH found where there is none")
	}
	if n := FindNotify(m.Payloads, NotifySignatureHashAlgorithms); n == nil || len(n.Data) != 6 {
		t.Errorf("notify %v", n)
	}
	if n := FindNotify(m.Payloads, NotifyCookie); n != nil {
		t.Errorf("cookie %v", n)
	}
}

// What the payloads say decides NextPayload and Length, not the header.
func TestAppendInitRequest(t *testing.T) {
	m := initMessage()
	m.NextPayload, m.Length, m.Version = PayloadEAP, 7, 0
	before := m.Header
	out, err := m.Append([]byte("marker"))
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("marker"), initRequest...); !bytes.Equal(out, want) {
		t.Errorf("got  %x\nwant %x", out, want)
	}
	if m.Header != before {
		t.Errorf("header changed to %+v", m.Header)
	}
}

func TestParseAuthRequest(t *testing.T) {
	ps, err := ParsePayloads(authFirst, authRequest)
	if err != nil {
		t.Fatal(err)
	}
	any4 := TrafficSelector{LastPort: 65535, First: netip.MustParseAddr("0.0.0.0"), Last: netip.MustParseAddr("255.255.255.255")}
	any6 := TrafficSelector{LastPort: 65535, First: netip.MustParseAddr("::"), Last: netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}
	want := []Payload{
		&ID{Initiator: true, IDType: IDFQDN, Data: []byte("dev1.test ")},
		&Cert{Encoding: CertX509Signature, Data: unhex("3082010a3081f0a0")},
		&Notify{SPI: []byte{}, NotifyType: NotifyInitialContact, Data: []byte{}},
		&CertReq{Encoding: CertX509Signature, Data: unhex("000102030405060708090a0b0c0d0e0f10111213")},
		&ID{IDType: IDIPv4Addr, Data: []byte{10, 1, 0, 1}},
		&Auth{Method: AuthSignature, Data: unhex("0a300a06082a8648ce3d0403")},
		&CP{CFGType: CFGRequest, Attributes: []ConfigAttribute{
			{Type: AttrInternalIP4Address, Value: []byte{}},
			{Type: AttrInternalIP4DNS, Value: []byte{}},
			{Type: AttrInternalIP4NBNS, Value: []byte{255, 255, 255, 255}},
		}},
		&SA{Proposals: []Proposal{{Number: 1, Protocol: ProtocolESP, SPI: unhex("c1c2c3c4"), Transforms: []Transform{
			{Type: TransformENCR, ID: EncrAESGCM16, KeyBits: 128},
			{Type: TransformESN, ID: ESNNo},
			{Type: TransformESN, ID: ESNYes},
		}}}},
		&TS{Initiator: true, Selectors: []TrafficSelector{any4, any6}},
		&TS{Selectors: []TrafficSelector{{Protocol: 17, FirstPort: 500, LastPort: 500, First: netip.MustParseAddr("192.168.0.0"), Last: netip.MustParseAddr("192.168.0.255")}}},
		&Notify{SPI: []byte{}, NotifyType: NotifyMOBIKESupported, Data: []byte{}},
		&Notify{SPI: []byte{}, NotifyType: NotifyAdditionalIP4Address, Data: []byte{10, 2, 0, 1}},
		&Notify{SPI: []byte{}, NotifyType: NotifyEAPOnlyAuthentication, Data: []byte{}},
		&Delete{Protocol: ProtocolESP, SPIs: []uint32{0x11111111, 0x22222222}},
		&EAP{Data: unhex("0102000501")},
	}
	if !reflect.DeepEqual(ps, want) {
		for i := range min(len(ps), len(want)) {
			if !reflect.DeepEqual(ps[i], want[i]) {
				t.Errorf("payload %d: got %+v, want %+v", i, ps[i], want[i])
			}
		}
		t.Fatalf("%d payloads, want %d", len(ps), len(want))
	}
	first, out, err := AppendPayloads(nil, want)
	if err != nil || first != authFirst || !bytes.Equal(out, authRequest) {
		t.Errorf("error %v, first %s\ngot  %x\nwant %x", err, first, out, authRequest)
	}
}

// An empty INFORMATIONAL is a liveness check: no payloads at all.
func TestNoPayloads(t *testing.T) {
	ps, err := ParsePayloads(PayloadNone, nil)
	if err != nil || ps != nil {
		t.Errorf("payloads %v, error %v", ps, err)
	}
	first, out, err := AppendPayloads(nil, nil)
	if err != nil || first != PayloadNone || out != nil {
		t.Errorf("first %v, octets %v, error %v", first, out, err)
	}
}

func TestEncryptedStaysSealed(t *testing.T) {
	raw := unhex(`0102030405060708 1112131415161718 2e 20 25 08 00000002 0000002c
		29 00 0010 000102030405060708090a0b`)
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := []Payload{&Encrypted{First: PayloadNotify, Body: unhex("000102030405060708090a0b")}}
	if !reflect.DeepEqual(m.Payloads, want) {
		t.Fatalf("got %+v", m.Payloads)
	}
	out, err := m.Append(nil)
	if err != nil || !bytes.Equal(out, raw) {
		t.Errorf("error %v, octets %x", err, out)
	}
}

func TestEncryptedFragment(t *testing.T) {
	raw := unhex(`0102030405060708 1112131415161718 35 20 23 08 00000001 00000030
		23 00 0014 0001 0003 000102030405060708090a0b`)
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := []Payload{&Encrypted{First: PayloadIDi, Fragment: 1, Total: 3, Body: unhex("000102030405060708090a0b")}}
	if !reflect.DeepEqual(m.Payloads, want) {
		t.Fatalf("got %+v", m.Payloads)
	}
	out, err := m.Append(nil)
	if err != nil || !bytes.Equal(out, raw) {
		t.Errorf("error %v, octets %x", err, out)
	}
}

// The answer to a message of a later version needs its header (RFC 7296
// section 2.5).
func TestHeaderOfOtherVersion(t *testing.T) {
	raw := bytes.Clone(initRequest)
	raw[17] = 0x30
	h, err := ParseHeader(raw)
	if !errors.Is(err, ErrVersion) || h.InitiatorSPI != 0x0102030405060708 || h.Exchange != IKESAInit || h.Version != 0x30 {
		t.Errorf("header %+v, error %v", h, err)
	}
	raw[17] = 0x2f // a later minor version is ours
	if _, err := ParseHeader(raw); err != nil {
		t.Error(err)
	}
}

func TestUnknownPayloadKeepsItsCriticalBit(t *testing.T) {
	raw := unhex("29 80 0006 abcd  00 00 0008 00 00 4000")
	ps, err := ParsePayloads(200, raw)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := ps[0].(*Unknown); !ok || !u.Critical || u.Type() != 200 {
		t.Errorf("got %+v", ps[0])
	}
	if _, out, err := AppendPayloads(nil, ps); err != nil || !bytes.Equal(out, raw) {
		t.Errorf("error %v, octets %x", err, out)
	}
}

// The critical bit of a payload that we know says nothing (RFC 7296 section
// 3.2), nor do reserved fields; but what a peer put in those of its ID is part
// of what it signed.
func TestReservedFields(t *testing.T) {
	ps, err := ParsePayloads(PayloadIDi, unhex("00 ff 000a 02 aabbcc 6162"))
	if err != nil {
		t.Fatal(err)
	}
	id := ps[0].(*ID)
	if got := id.AppendBody(nil); !bytes.Equal(got, unhex("02aabbcc6162")) {
		t.Errorf("body %x", got)
	}
	_, out, err := AppendPayloads(nil, ps)
	if err != nil || !bytes.Equal(out, unhex("00 00 000a 02 aabbcc 6162")) {
		t.Errorf("error %v, octets %x", err, out)
	}
}
