package admit

import "crypto/sha256"

// Roll is who may connect, as somebody keeps it who changes it device by device,
// a manager for instance: a revocation among a million devices is no new Policy.
// It is safe for concurrent use and never waits for long.
type Roll interface {
	// Device of a name, in the form of DeviceName: its group, which may be
	// empty, and whether it is barred. A device that isn't on the roll isn't
	// known.
	Device(name string) (group string, barred, known bool)
	// Revoked says whether a certificate is, and its CRLReason (RFC 5280 section
	// 5.3.1). The issuer is the SHA-256 of its SubjectPublicKeyInfo; the serial
	// number is big-endian without leading zeros.
	Revoked(issuer [sha256.Size]byte, serial []byte) (reason int, revoked bool)
}

func (p *Policy) isBarred(device string) bool {
	if _, barred := p.barred[device]; barred {
		return true
	}
	if p.roll == nil {
		return false
	}
	_, barred, _ := p.roll.Device(device)
	return barred
}
