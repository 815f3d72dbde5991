package ikewire

// Unknown is a payload of a type that this package has no struct for. If it is
// Critical, the message is rejected with UNSUPPORTED_CRITICAL_PAYLOAD,
// otherwise the payload is skipped (RFC 7296 section 2.5).
type Unknown struct {
	PayloadType PayloadType
	Critical    bool
	Data        []byte
}

func (p *Unknown) Type() PayloadType { return p.PayloadType }

func (p *Unknown) appendBody(dst []byte) ([]byte, error) {
	if p.PayloadType == PayloadNone {
		return dst, fieldError(0, "payload type", ErrSyntax)
	}
	return append(dst, p.Data...), nil
}
