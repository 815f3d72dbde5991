package ikewire

// Vendor is the vendor ID payload (RFC 7296 section 3.12).
type Vendor struct{ Data []byte }

func (*Vendor) Type() PayloadType { return PayloadVendor }

func (p *Vendor) appendBody(dst []byte) ([]byte, error) { return append(dst, p.Data...), nil }
