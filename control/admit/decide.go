package admit

import (
	"crypto/x509"
	"net/netip"
	"time"
)

// Evidence is what a peer presented in IKE_AUTH.
type Evidence struct {
	// IDType and ID are the identification type and data of IDi (RFC 7296
	// section 3.5).
	IDType uint8
	ID     []byte
	// Chain holds the certificates of the CERT payloads in DER, the device's
	// own first, the others in any order (RFC 7296 section 3.6).
	Chain [][]byte
}

// Admission is the answer to a peer that gets in, provided that its AUTH
// payload verifies with Certificate.
type Admission struct {
	// Device is its canonical name, see DeviceName.
	Device string
	// Group is one of Config.Groups, or Config.Group.
	Group string
	// Addresses that the roll has assigned to it.
	Addresses []netip.Addr
	// Certificate of the device, parsed anew for each decision.
	Certificate *x509.Certificate
	// Until is when the first certificate of the path expires, the root's
	// included; a session should not outlive it.
	Until time.Time
	// Standing is what the decision rests on, for Renew.
	Standing Standing
}

// Decide says who the peer is, or why it is refused; the error is always a
// *Refusal. Nothing of the evidence is kept but the leaf, by the caller, and the
// issuers of certificates that were found sound.
func (p *Policy) Decide(now time.Time, e Evidence) (Admission, error) {
	leaf, sent, refusal := p.parse(e.Chain)
	if refusal != nil {
		return Admission{}, refusal
	}
	path, refusal := p.path(now, leaf, sent)
	if refusal != nil {
		if refusal.Reason == ReasonRevoked {
			refusal.Device, _ = DeviceName(leaf.Subject.CommonName)
		}
		return Admission{}, refusal
	}
	device, refusal := deviceOf(path)
	if refusal != nil {
		return Admission{}, refusal
	}
	if refusal := matchIdentity(e.IDType, e.ID, leaf); refusal != nil {
		return Admission{}, refusal
	}
	member, refusal := p.standingOf(device, leaf.Subject.OrganizationalUnit)
	if refusal != nil {
		return Admission{}, refusal
	}
	until := leaf.NotAfter
	for _, c := range path {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return Admission{
		Device: device, Group: member.Group, Addresses: member.Addresses, Certificate: leaf, Until: until,
		Standing: p.standing(device, until, path),
	}, nil
}

// path from the leaf to a root. What is remembered of these certificates only
// ever saves work: without a path that may be used now all is looked at anew, as
// another one may have become valid.
func (p *Policy) path(now time.Time, leaf *x509.Certificate, sent []*x509.Certificate) ([]*x509.Certificate, *Refusal) {
	digest := digestOf(leaf, sent)
	if known := validPaths(now, p.seen.find(digest, leaf)); len(known) > 0 {
		if path, refusal := p.choose(now, known); refusal == nil {
			return path, nil
		}
	}
	paths, refusal := p.paths(now, leaf, sent)
	if refusal != nil {
		return nil, refusal
	}
	p.seen.add(digest, paths)
	return p.choose(now, paths)
}

// choose returns the first path that may be used for this purpose and has
// nothing revoked in it. There is more than one path only where CAs have
// certified each other; the refusal is that of the first.
func (p *Policy) choose(now time.Time, paths [][]*x509.Certificate) ([]*x509.Certificate, *Refusal) {
	var first *Refusal
	for _, path := range paths {
		refusal := checkUsage(path)
		if refusal == nil {
			refusal = p.checkInstance(path)
		}
		if refusal == nil {
			refusal = p.checkRevocation(now, path)
		}
		if refusal == nil {
			return path, nil
		}
		if first == nil {
			first = refusal
		}
	}
	return nil, first
}
