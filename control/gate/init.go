package gate

import "encoding/binary"

// maxPayloads of an IKE_SA_INIT: three plus notifies and vendor IDs, of which
// real clients send about ten.
const maxPayloads = 48

// scanInit walks the payload chain of an IKE_SA_INIT whose header is in order
// and finds the nonce (16 to 256 octets, RFC 7296 section 3.9) and the cookie,
// which counts only as the first payload (section 2.6); nil without one. Both
// are parts of b.
func scanInit(b []byte, first uint8) (nonce, cookie []byte, reason Reason) {
	rest := b[headerLen:]
	next := first
	for n := 0; next != 0; n++ {
		if n == maxPayloads || len(rest) < 4 {
			return nil, nil, ReasonPayloads
		}
		length := int(binary.BigEndian.Uint16(rest[2:]))
		if length < 4 || length > len(rest) {
			return nil, nil, ReasonPayloads
		}
		body := rest[4:length]
		switch {
		case next == payloadNonce:
			if nonce != nil || len(body) < 16 || len(body) > 256 {
				return nil, nil, ReasonNonce
			}
			nonce = body
		case next == payloadNotify && n == 0:
			cookie = cookieOf(body)
		}
		next = rest[0]
		rest = rest[length:]
	}
	switch {
	case len(rest) != 0:
		return nil, nil, ReasonPayloads
	case nonce == nil:
		return nil, nil, ReasonNonce
	}
	return nonce, cookie, ReasonNone
}

// cookieOf returns the data of a COOKIE notify body, nil if it is another one
// or broken (RFC 7296 section 3.10).
func cookieOf(body []byte) []byte {
	if len(body) < 4 || binary.BigEndian.Uint16(body[2:]) != notifyCookie {
		return nil
	}
	data := 4 + int(body[1])
	if data > len(body) {
		return nil
	}
	return body[data:]
}
