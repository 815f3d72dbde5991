package ikewire

// EAP is the EAP payload (RFC 7296 section 3.16): one EAP packet, undecoded.
type EAP struct{ Data []byte }

func (*EAP) Type() PayloadType { return PayloadEAP }

func (p *EAP) appendBody(dst []byte) ([]byte, error) { return append(dst, p.Data...), nil }
