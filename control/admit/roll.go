package admit

import (
	"crypto/sha256"
	"net/netip"
)

// Roll is who may connect, as somebody keeps it who changes it device by device,
// a manager for instance: a revocation among a million devices is no new Policy.
// It is safe for concurrent use and never waits for long.
type Roll interface {
	// Device of a name, in the form of DeviceName. One that isn't on the roll
	// isn't known.
	Device(name string) (Member, bool)
	// Revoked says whether a certificate is, and its CRLReason (RFC 5280 section
	// 5.3.1). The issuer is the SHA-256 of its SubjectPublicKeyInfo; the serial
	// number is big-endian without leading zeros.
	Revoked(issuer [sha256.Size]byte, serial []byte) (reason int, revoked bool)
}

// Member of a roll.
type Member struct {
	// Group that it is in; empty leaves that to the policy.
	Group string
	// Barred: it is known, and kept out.
	Barred bool
	// Addresses that are the device's alone; none: any will do.
	Addresses []netip.Addr
}

// member of a name, the zero one if the roll doesn't know it.
func (p *Policy) member(device string) (Member, bool) {
	if p.roll == nil {
		return Member{}, false
	}
	return p.roll.Device(device)
}

// standingOf a device that the certificates speak for: its group and addresses.
func (p *Policy) standingOf(device string, units []string) (Member, *Refusal) {
	m, known := p.member(device)
	if _, barred := p.barred[device]; barred || m.Barred {
		return Member{}, refuseDevice(ReasonBarred, device, "device %s", device)
	}
	group, refusal := p.groupOf(device, units, m.Group, known)
	if refusal != nil {
		return Member{}, refusal
	}
	m.Group = group
	return m, nil
}
