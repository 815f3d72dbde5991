package ikewire

// Bounds on the length of a nonce in octets (RFC 7296 section 3.9).
const (
	MinNonceLen = 16
	MaxNonceLen = 256
)

// Nonce is the nonce payload (RFC 7296 section 3.9).
type Nonce struct{ Data []byte }

func (*Nonce) Type() PayloadType { return PayloadNonce }

func parseNonce(b []byte) (Payload, error) {
	p := &Nonce{Data: b}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Nonce) check() error {
	if len(p.Data) < MinNonceLen || len(p.Data) > MaxNonceLen {
		return fieldError(0, "nonce", ErrLength)
	}
	return nil
}

func (p *Nonce) appendBody(dst []byte) ([]byte, error) {
	if err := p.check(); err != nil {
		return dst, err
	}
	return append(dst, p.Data...), nil
}
