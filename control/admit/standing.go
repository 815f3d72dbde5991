package admit

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"
)

// Standing is what a decision rests on, short enough to be kept in place of the
// certificates, in a ticket for instance. It is to be believed only if it comes
// back as it was given out.
type Standing struct {
	Device string
	// Epoch of the policy.
	Epoch uint64
	// Instance is the instance OID in DER without header, empty if none was
	// asked for.
	Instance []byte
	// Units are the organizational units of the certificate, for groups.
	Units []string
	// Until is when the first certificate of the path expires.
	Until time.Time
	// Anchor is the SHA-256 of the root.
	Anchor [sha256.Size]byte
	// Path is what may be revoked, the device's certificate first, without the
	// root.
	Path []Link
}

// Link is one certificate of a path.
type Link struct {
	// Issuer is a digest of its issuer's name and key.
	Issuer [issuerDigestLen]byte
	// Serial number, big-endian.
	Serial []byte
}

const issuerDigestLen = 16

func (i issuer) digest() [issuerDigestLen]byte {
	sum := sha256.Sum256(append([]byte(i.subject), i.key[:]...))
	return [issuerDigestLen]byte(sum[:])
}

func (p *Policy) indexAuthorities(roots []*x509.Certificate) {
	p.anchors = make(map[[sha256.Size]byte]bool, len(roots))
	for _, root := range roots {
		p.anchors[sha256.Sum256(root.Raw)] = true
	}
	p.issuers = make(map[[issuerDigestLen]byte]issuer, len(p.authorities))
	for _, ca := range p.authorities {
		i := issuerOf(ca)
		p.issuers[i.digest()] = i
	}
}

// standing of a path that was decided for.
func (p *Policy) standing(device string, until time.Time, path []*x509.Certificate) Standing {
	s := Standing{
		Device: device, Epoch: p.epoch, Until: until, Anchor: sha256.Sum256(path[len(path)-1].Raw),
		Units: path[0].Subject.OrganizationalUnit, Path: make([]Link, len(path)-1),
	}
	if len(p.instanceOIDs) > 0 {
		oid, _ := p.instanceOf(path)
		s.Instance, _ = oid.MarshalBinary()
	}
	for i := range s.Path {
		s.Path[i] = Link{Issuer: issuerOf(path[i+1]).digest(), Serial: path[i].SerialNumber.Bytes()}
	}
	return s
}

// Renew says whether a device is still admitted whose earlier admission had
// this standing, or why it isn't; the error is always a *Refusal. It looks
// things up and verifies no signature. Admission.Certificate is nil.
//
// It is stricter than Decide in one way: a device that would get in by another
// path or another instance OID than before is refused here, and gets in with
// its certificates.
func (p *Policy) Renew(now time.Time, s Standing) (Admission, error) {
	instance := func(oid x509.OID) bool {
		der, err := oid.MarshalBinary()
		return err == nil && len(der) > 0 && string(der) == string(s.Instance)
	}
	switch {
	case s.Epoch != p.epoch:
		return Admission{}, refuse(ReasonEpoch, "epoch %d, now it is %d", s.Epoch, p.epoch)
	case !p.anchors[s.Anchor]:
		return Admission{}, refuse(ReasonUntrustedChain, "root %x is no longer trusted", s.Anchor[:8])
	case !now.Before(s.Until):
		return Admission{}, refuse(ReasonExpired, "a certificate expired at %s", s.Until.UTC().Format(time.RFC3339))
	case len(p.instanceOIDs) > 0 && !slices.ContainsFunc(p.instanceOIDs, instance):
		return Admission{}, refuse(ReasonWrongInstance, "none of %v", p.instanceOIDs)
	}
	if refusal := p.renewRevocation(now, s); refusal != nil {
		refusal.Device = s.Device
		return Admission{}, refusal
	}
	member, refusal := p.standingOf(s.Device, s.Units)
	if refusal != nil {
		return Admission{}, refusal
	}
	return Admission{Device: s.Device, Group: member.Group, Addresses: member.Addresses, Until: s.Until, Standing: s}, nil
}

// renewRevocation is checkRevocation for a Standing. An issuer that isn't
// configured has neither list nor response.
func (p *Policy) renewRevocation(now time.Time, s Standing) *Refusal {
	if !p.revocation && p.roll == nil {
		return nil
	}
	var stale *Refusal
	for i, l := range s.Path {
		ca, configured := p.issuers[l.Issuer]
		if !configured && p.roll != nil {
			// The roll would have to be asked by its key.
			return refuse(ReasonRevocationUnknown, "an issuer of %s is not configured", s.Device)
		}
		refusal := p.checkSubject(now, subject{ca, string(l.Serial)}, i == 0, s.Device, "its issuer")
		switch {
		case refusal == nil:
		case refusal.Reason != ReasonStaleList:
			return refusal
		case stale == nil:
			stale = refusal
		}
	}
	return stale
}
