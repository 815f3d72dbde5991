package ikewire

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
)

// PayloadType is the number of a payload (IANA "IKEv2 Payload Types").
type PayloadType uint8

const (
	PayloadNone      PayloadType = 0
	PayloadSA        PayloadType = 33
	PayloadKE        PayloadType = 34
	PayloadIDi       PayloadType = 35
	PayloadIDr       PayloadType = 36
	PayloadCert      PayloadType = 37
	PayloadCertReq   PayloadType = 38
	PayloadAuth      PayloadType = 39
	PayloadNonce     PayloadType = 40
	PayloadNotify    PayloadType = 41
	PayloadDelete    PayloadType = 42
	PayloadVendor    PayloadType = 43
	PayloadTSi       PayloadType = 44
	PayloadTSr       PayloadType = 45
	PayloadEncrypted PayloadType = 46 // SK
	PayloadCP        PayloadType = 47
	PayloadEAP       PayloadType = 48
	PayloadFragment  PayloadType = 53 // SKF, RFC 7383
)

func (t PayloadType) String() string {
	switch t {
	case PayloadNone:
		return "NONE"
	case PayloadSA:
		return "SA"
	case PayloadKE:
		return "KE"
	case PayloadIDi:
		return "IDi"
	case PayloadIDr:
		return "IDr"
	case PayloadCert:
		return "CERT"
	case PayloadCertReq:
		return "CERTREQ"
	case PayloadAuth:
		return "AUTH"
	case PayloadNonce:
		return "NONCE"
	case PayloadNotify:
		return "N"
	case PayloadDelete:
		return "D"
	case PayloadVendor:
		return "V"
	case PayloadTSi:
		return "TSi"
	case PayloadTSr:
		return "TSr"
	case PayloadEncrypted:
		return "SK"
	case PayloadCP:
		return "CP"
	case PayloadEAP:
		return "EAP"
	case PayloadFragment:
		return "SKF"
	}
	return "PAYLOAD_" + strconv.Itoa(int(t))
}

// Payload is one payload of a message: a pointer to one of the structs of
// this package.
type Payload interface {
	Type() PayloadType
	// appendBody writes what follows the generic payload header.
	appendBody(dst []byte) ([]byte, error)
}

// PayloadHeaderLen is the length of the generic payload header in octets (RFC
// 7296 section 3.2).
const PayloadHeaderLen = 4

// MaxPayloads in one chain. Real messages stay below 20, of which most are
// notifies and certificates; MOBIKE adds one for each additional address.
const MaxPayloads = 64

const criticalBit = 0x80

// ParsePayloads reads the chain of payloads that starts with type first and
// fills b: the content of an opened encrypted payload. An empty chain is
// PayloadNone and no octets. Encrypted payloads have no place there.
//
// The critical bit of payloads that this package knows is ignored; unknown
// ones become Unknown. Errors are of type *Error and wrap ErrTruncated,
// ErrLength, ErrTooMany or ErrSyntax.
func ParsePayloads(first PayloadType, b []byte) ([]Payload, error) {
	return parseChain(first, b, 0, false)
}

// parseChain reads the payloads in b[offset:].
func parseChain(first PayloadType, b []byte, offset int, sealed bool) ([]Payload, error) {
	payloads := slices.Grow([]Payload(nil), countPayloads(first, b[offset:]))
	for next := first; next != PayloadNone; {
		if len(payloads) == MaxPayloads {
			return nil, fieldError(offset, "payloads", ErrTooMany)
		}
		typ, rest := next, b[offset:]
		if len(rest) < PayloadHeaderLen {
			return nil, &Error{typ, offset, "generic header", ErrTruncated}
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < PayloadHeaderLen {
			return nil, &Error{typ, offset + 2, "payload length", ErrLength}
		}
		if n > len(rest) {
			return nil, &Error{typ, offset + 2, "payload", ErrTruncated}
		}
		next = PayloadType(rest[0])
		body := rest[PayloadHeaderLen:n:n]
		if typ == PayloadEncrypted || typ == PayloadFragment {
			if !sealed {
				return nil, &Error{typ, offset, "encrypted inside encrypted", ErrSyntax}
			}
			if n != len(rest) {
				return nil, &Error{typ, offset + 2, "octets after the encrypted payload", ErrLength}
			}
		}
		p, err := parsePayload(typ, rest[0], rest[1]&criticalBit != 0, body)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				e.Payload, e.Offset = typ, e.Offset+offset+PayloadHeaderLen
			}
			return nil, err
		}
		payloads = append(payloads, p)
		offset += n
		if _, ok := p.(*Encrypted); ok {
			next = PayloadNone // its own next payload is the first inside
		}
	}
	if offset != len(b) {
		return nil, fieldError(offset, "octets after the last payload", ErrLength)
	}
	return payloads, nil
}

// countPayloads of a chain that begins with b, as many as may be at most.
func countPayloads(next PayloadType, b []byte) (n int) {
	for next != PayloadNone && len(b) >= PayloadHeaderLen && n < MaxPayloads {
		n++
		if next == PayloadEncrypted || next == PayloadFragment {
			break
		}
		next = PayloadType(b[0])
		b = b[min(max(int(binary.BigEndian.Uint16(b[2:])), PayloadHeaderLen), len(b)):]
	}
	return n
}

func parsePayload(typ PayloadType, next byte, critical bool, body []byte) (Payload, error) {
	switch typ {
	case PayloadSA:
		return parseSA(body)
	case PayloadKE:
		return parseKE(body)
	case PayloadIDi, PayloadIDr:
		return parseID(typ == PayloadIDi, body)
	case PayloadCert:
		return parseCert(body)
	case PayloadCertReq:
		return parseCertReq(body)
	case PayloadAuth:
		return parseAuth(body)
	case PayloadNonce:
		return parseNonce(body)
	case PayloadNotify:
		return parseNotify(body)
	case PayloadDelete:
		return parseDelete(body)
	case PayloadVendor:
		return &Vendor{Data: body}, nil
	case PayloadTSi, PayloadTSr:
		return parseTS(typ == PayloadTSi, body)
	case PayloadEncrypted:
		return &Encrypted{First: PayloadType(next), Body: body}, nil
	case PayloadFragment:
		return parseFragment(PayloadType(next), body)
	case PayloadCP:
		return parseCP(body)
	case PayloadEAP:
		return &EAP{Data: body}, nil
	case PayloadNone: // a chain ends there, parseChain never asks
	}
	return &Unknown{PayloadType: typ, Critical: critical, Data: body}, nil
}

// AppendPayloads writes a chain of payloads behind dst and returns the type of
// the first, PayloadNone if there is none. Errors: ErrLength if a payload is
// longer than its length field can say, ErrSyntax if one can't be written.
func AppendPayloads(dst []byte, ps []Payload) (first PayloadType, out []byte, err error) {
	if len(ps) == 0 {
		return PayloadNone, dst, nil
	}
	for i, p := range ps {
		var flags byte
		next := PayloadNone
		if i+1 < len(ps) {
			next = ps[i+1].Type()
		}
		switch p := p.(type) {
		case *Encrypted:
			if i+1 < len(ps) {
				return PayloadNone, dst, &Error{p.Type(), 0, "not the last payload", ErrSyntax}
			}
			next = p.First
		case *Unknown:
			if p.Critical {
				flags = criticalBit
			}
		}
		start := len(dst)
		dst = append(dst, byte(next), flags, 0, 0)
		if dst, err = p.appendBody(dst); err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				e.Payload = p.Type()
			}
			return PayloadNone, dst[:start], err
		}
		n := len(dst) - start
		if n > math.MaxUint16 {
			return PayloadNone, dst[:start], &Error{p.Type(), 0, "payload", ErrLength}
		}
		binary.BigEndian.PutUint16(dst[start+2:], uint16(n))
	}
	return ps[0].Type(), dst, nil
}
