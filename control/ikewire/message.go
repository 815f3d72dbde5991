package ikewire

import (
	"encoding/binary"
	"math"
)

// Message is an IKE message (RFC 7296 section 3): the header and its chain of
// payloads. If it has an encrypted payload, that is the last.
type Message struct {
	Header
	Payloads []Payload
}

// Parse reads one whole message as it came from the network, without the
// non-ESP marker. An encrypted payload stays sealed. The payloads alias b.
// Errors are those of ParseHeader and ParsePayloads.
func Parse(b []byte) (*Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	payloads, err := parseChain(h.NextPayload, b, HeaderLen, true)
	if err != nil {
		return nil, err
	}
	return &Message{Header: h, Payloads: payloads}, nil
}

// Append writes the message behind dst. NextPayload and Length are taken from
// the payloads, not from the header, which is left as it is; a zero Version
// becomes Version2. Errors are those of AppendPayloads; dst is then returned
// as it was given.
func (m *Message) Append(dst []byte) ([]byte, error) {
	start := len(dst)
	h := m.Header
	dst = appendHeader(dst, &h)
	first, dst, err := AppendPayloads(dst, m.Payloads)
	if err != nil {
		return dst[:start], err
	}
	n := len(dst) - start
	if uint64(n) > math.MaxUint32 {
		return dst[:start], &Error{Field: "message length", Err: ErrLength}
	}
	dst[start+16] = byte(first)
	binary.BigEndian.PutUint32(dst[start+24:], uint32(n))
	return dst, nil
}

// Find returns the first payload of the type that P points to, and whether
// there is one: Find[*KE](m.Payloads).
func Find[P Payload](ps []Payload) (P, bool) {
	for _, p := range ps {
		if p, ok := p.(P); ok {
			return p, true
		}
	}
	var none P
	return none, false
}
