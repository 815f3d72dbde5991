package gate

import "encoding/binary"

// maxPayloads of an IKE_SA_INIT: three plus notifies and vendor IDs, of which
// real clients send about ten.
const maxPayloads = 48

// initParts is what the gate reads of an IKE_SA_INIT. The slices are parts of
// the message.
type initParts struct {
	nonce, cookie []byte // cookie: nil without one
	// expensive: it comes with a key exchange of a group that costs much.
	expensive bool
}

// scanInit walks the payload chain of an IKE_SA_INIT, or of an
// IKE_SESSION_RESUME, which has no key exchange, whose header is in order
// and finds the nonce (16 to 256 octets, RFC 7296 section 3.9), the cookie,
// which counts only as the first payload (section 2.6), and the group of the key
// exchange (section 3.4).
func scanInit(b []byte, first uint8) (p initParts, reason Reason) {
	rest := b[headerLen:]
	next := first
	for n := 0; next != 0; n++ {
		if n == maxPayloads || len(rest) < 4 {
			return initParts{}, ReasonPayloads
		}
		length := int(binary.BigEndian.Uint16(rest[2:]))
		if length < 4 || length > len(rest) {
			return initParts{}, ReasonPayloads
		}
		body := rest[4:length]
		switch {
		case next == payloadNonce:
			if p.nonce != nil || len(body) < 16 || len(body) > 256 {
				return initParts{}, ReasonNonce
			}
			p.nonce = body
		case next == payloadKE && len(body) >= 2:
			p.expensive = p.expensive || expensive(binary.BigEndian.Uint16(body))
		case next == payloadNotify && n == 0:
			p.cookie = notifyData(body, notifyCookie)
		}
		next = rest[0]
		rest = rest[length:]
	}
	switch {
	case len(rest) != 0:
		return initParts{}, ReasonPayloads
	case p.nonce == nil:
		return initParts{}, ReasonNonce
	}
	return p, ReasonNone
}

// TicketOf an IKE_SESSION_RESUME that passed Check (RFC 5723 section 5.2): the data
// of the first TICKET_OPAQUE, a part of the message; nil if there is none. Nobody has
// looked into it.
func TicketOf(data []byte) []byte {
	if len(data) < headerLen {
		return nil
	}
	rest, next := data[headerLen:], data[16]
	for n := 0; next != 0 && n < maxPayloads && len(rest) >= 4; n++ {
		length := int(binary.BigEndian.Uint16(rest[2:]))
		if length < 4 || length > len(rest) {
			return nil
		}
		if next == payloadNotify {
			if ticket := notifyData(rest[4:length], notifyTicketOpaque); ticket != nil {
				return ticket
			}
		}
		next, rest = rest[0], rest[length:]
	}
	return nil
}

// expensive: answering a key exchange of that group takes more than about a
// millisecond (on one core of a small server: x25519 70 microseconds, ecp256
// 170, modp2048 1.1 ms, ecp521 3.2 ms, modp3072 20 ms, modp4096 35 ms). That is
// not done for a source that may be forged.
func expensive(group uint16) bool {
	switch group {
	case groupMODP2048, groupMODP3072, groupMODP4096, groupECP521:
		return true
	}
	return false
}

// notifyData is the data of a notify body of a type, nil if it is another one or
// broken (RFC 7296 section 3.10).
func notifyData(body []byte, of uint16) []byte {
	if len(body) < 4 || binary.BigEndian.Uint16(body[2:]) != of {
		return nil
	}
	data := 4 + int(body[1])
	if data > len(body) {
		return nil
	}
	return body[data:]
}
