package encap

// Kind of a datagram.
type Kind uint8

const (
	// KindShort is too short to be anything.
	KindShort Kind = iota
	// KindIKE is an IKE message.
	KindIKE
	// KindESP is an ESP packet, or what claims to be one.
	KindESP
	// KindKeepalive is a NAT keepalive (RFC 3948 section 2.3).
	KindKeepalive
)

// MarkerLen is the length of the non-ESP marker in octets.
const MarkerLen = 4

// Places and numbers of an IKE header (RFC 7296 section 3.1; RFC 5723 section
// 4.3.1 for the second exchange).
const (
	ikeHeaderLen     = 28
	ikeFirstPayload  = 16
	ikeExchange      = 18
	ikeSAInit        = 34
	ikeSessionResume = 38
	ikePayloadNotify = 41
)

// FromStranger says whether an IKE message asks for a new IKE SA and begins with
// no notify, which a cookie would be (RFC 7296 section 2.6): whoever can't be
// served at once asks again, and has lost nothing. It looks at two octets of what
// anybody can send, so it is good for an order, and for nothing else.
func FromStranger(message []byte) bool {
	if len(message) < ikeHeaderLen {
		return true
	}
	exchange := message[ikeExchange]
	return (exchange == ikeSAInit || exchange == ikeSessionResume) && message[ikeFirstPayload] != ikePayloadNotify
}

// Classify tells what came to the port for UDP encapsulation and returns the
// IKE message or ESP packet in it, a slice of payload. Four zero octets are the
// non-ESP marker (RFC 3948 section 2.2), which is taken off.
func Classify(payload []byte) (Kind, []byte) {
	if len(payload) == 1 && payload[0] == 0xFF {
		return KindKeepalive, nil
	}
	if len(payload) < MarkerLen {
		return KindShort, nil
	}
	if payload[0]|payload[1]|payload[2]|payload[3] != 0 {
		return KindESP, payload
	}
	if len(payload) == MarkerLen {
		return KindShort, nil
	}
	return KindIKE, payload[MarkerLen:]
}
