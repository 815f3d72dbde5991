package ikewire

import (
	"encoding/hex"
	"net/netip"
	"strconv"
)

// IDType says what an identification is (IANA "IKEv2 Identification Payload
// ID Types").
type IDType uint8

const (
	IDIPv4Addr   IDType = 1
	IDFQDN       IDType = 2
	IDRFC822Addr IDType = 3
	IDIPv6Addr   IDType = 5
	IDDERASN1DN  IDType = 9
	IDDERASN1GN  IDType = 10
	IDKeyID      IDType = 11
	IDNull       IDType = 13 // RFC 7619
)

func (t IDType) String() string {
	switch t {
	case IDIPv4Addr:
		return "ID_IPV4_ADDR"
	case IDFQDN:
		return "ID_FQDN"
	case IDRFC822Addr:
		return "ID_RFC822_ADDR"
	case IDIPv6Addr:
		return "ID_IPV6_ADDR"
	case IDDERASN1DN:
		return "ID_DER_ASN1_DN"
	case IDDERASN1GN:
		return "ID_DER_ASN1_GN"
	case IDKeyID:
		return "ID_KEY_ID"
	case IDNull:
		return "ID_NULL"
	}
	return "ID_" + strconv.Itoa(int(t))
}

// ID is the identification payload, IDi or IDr (RFC 7296 section 3.5).
type ID struct {
	Initiator bool
	IDType    IDType
	Data      []byte
	// reserved octets as received: they are signed with the rest (RFC 7296
	// section 2.15) although they mean nothing.
	reserved [3]byte
}

// Type is PayloadIDi for the initiator's, otherwise PayloadIDr.
func (p *ID) Type() PayloadType {
	if p.Initiator {
		return PayloadIDi
	}
	return PayloadIDr
}

// String shows the identification for people; names in DER are not decoded.
func (p *ID) String() string {
	switch p.IDType {
	case IDIPv4Addr, IDIPv6Addr:
		if a, ok := netip.AddrFromSlice(p.Data); ok {
			return a.String()
		}
	case IDFQDN, IDRFC822Addr:
		quoted := strconv.QuoteToASCII(string(p.Data))
		return quoted[1 : len(quoted)-1]
	case IDDERASN1DN, IDDERASN1GN, IDKeyID, IDNull:
	}
	return p.IDType.String() + ":" + hex.EncodeToString(p.Data)
}

func parseID(initiator bool, b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "identification header", ErrTruncated)
	}
	return &ID{Initiator: initiator, IDType: IDType(b[0]), Data: b[4:], reserved: [3]byte(b[1:4])}, nil
}

// AppendBody writes RestOfIDPayload (RFC 7296 section 2.15): ID type, reserved
// octets as they were received, data.
func (p *ID) AppendBody(dst []byte) []byte {
	dst = append(dst, byte(p.IDType))
	dst = append(dst, p.reserved[:]...)
	return append(dst, p.Data...)
}

func (p *ID) appendBody(dst []byte) ([]byte, error) { return p.AppendBody(dst), nil }
