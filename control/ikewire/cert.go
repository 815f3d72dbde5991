package ikewire

// Certificate encodings (IANA "IKEv2 Certificate Encodings"); the others are
// of no use to this project.
const (
	CertX509Signature uint8 = 4
	CertHashURL       uint8 = 12
)

// AuthorityLen is the length of one authority in a CertReq in octets: a SHA-1
// hash.
const AuthorityLen = 20

// Cert is the certificate payload (RFC 7296 section 3.6).
type Cert struct {
	Encoding uint8
	// Data is one DER certificate where Encoding is CertX509Signature.
	Data []byte
}

func (*Cert) Type() PayloadType { return PayloadCert }

func parseCert(b []byte) (Payload, error) {
	if len(b) < 1 {
		return nil, fieldError(0, "certificate encoding", ErrTruncated)
	}
	return &Cert{Encoding: b[0], Data: b[1:]}, nil
}

func (p *Cert) appendBody(dst []byte) ([]byte, error) {
	dst = append(dst, p.Encoding)
	return append(dst, p.Data...), nil
}

// CertReq is the certificate request payload (RFC 7296 section 3.7).
type CertReq struct {
	Encoding uint8
	// Data: SHA-1 hashes of the SubjectPublicKeyInfo of trusted authorities,
	// AuthorityLen octets each, one behind the other; for CertX509Signature.
	Data []byte
}

func (*CertReq) Type() PayloadType { return PayloadCertReq }

func parseCertReq(b []byte) (Payload, error) {
	if len(b) < 1 {
		return nil, fieldError(0, "certificate encoding", ErrTruncated)
	}
	p := &CertReq{Encoding: b[0], Data: b[1:]}
	if p.Encoding == CertX509Signature && len(p.Data)%AuthorityLen != 0 {
		return nil, fieldError(1, "certification authorities", ErrLength)
	}
	return p, nil
}

func (p *CertReq) appendBody(dst []byte) ([]byte, error) {
	if p.Encoding == CertX509Signature && len(p.Data)%AuthorityLen != 0 {
		return dst, fieldError(0, "certification authorities", ErrLength)
	}
	dst = append(dst, p.Encoding)
	return append(dst, p.Data...), nil
}
