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
