package admit

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Limits on what a peer may present.
const (
	// DefaultMaxCertificates is what a zero Config.MaxCertificates means.
	DefaultMaxCertificates = 4
	// LimitMaxCertificates is the highest Config.MaxCertificates.
	LimitMaxCertificates = 10
	// MaxCertificateBytes is the longest certificate that is parsed, in DER.
	MaxCertificateBytes = 8192
)

// StaleList says what to do with a device whose issuer's revocation list is
// past its nextUpdate, or whose OCSP response is, with nothing fresher in its
// place.
type StaleList uint8

const (
	// StaleRefuse refuses it. The default: whoever can hold back a new list
	// can't keep a revoked device connected, but a list that nobody renews
	// keeps every device out. Watch Policy.RevocationExpires.
	StaleRefuse StaleList = iota
	// StaleAdmit believes the old list and the old response: what they call
	// revoked stays so, the rest is admitted.
	StaleAdmit
)

// Config of a Policy. New copies what it keeps; the certificates themselves
// must not change afterwards.
type Config struct {
	// Roots are the trust anchors, at least one. Only they are trusted.
	Roots []*x509.Certificate
	// Intermediates help to build a path and to check revocation lists.
	Intermediates []*x509.Certificate
	// InstanceOIDs: the leaf must carry one of them; empty means any.
	InstanceOIDs []x509.OID
	// RevocationLists, each signed by one of Roots or Intermediates. Of two by
	// the same issuer the one with the higher number counts. With no list
	// and no OCSP response at all nothing is checked; with any, the issuer of
	// every leaf needs a list or the leaf a response, while an intermediate is
	// checked where there is one. Delta, indirect and partial lists are not
	// taken.
	RevocationLists []*x509.RevocationList
	// OCSPResponses in DER, each about one certificate of Roots or
	// Intermediates, signed by that CA or by its responder (RFC 6960 section
	// 4.2.2.2), with RSA PKCS #1 or ECDSA and SHA-2. Of two about one
	// certificate the newer counts. "Revoked" refuses whatever a list says; a
	// fresh "good" stands in for a list that is missing or stale; "unknown"
	// says nothing. Without nextUpdate a response is fresh for a day.
	OCSPResponses [][]byte
	// StaleList is the answer to a list or a response past its nextUpdate.
	StaleList StaleList
	// Barred devices by name; the case does not matter.
	Barred []string
	// Groups by which devices are known. A device that a group names is in that
	// one, whatever its certificate says.
	Groups []Group
	// Group that admitted devices get which none of Groups knows, unless
	// RefuseUnknown keeps them out.
	Group         string
	RefuseUnknown bool
	// Roll is asked at each decision, beside what stands here; nil for none.
	Roll Roll
	// Epoch of the authorisations: a Standing of another one is worth nothing.
	Epoch uint64
	// MaxCertificates that a peer may send, and the most between a device and
	// its root, the leaf counted. Zero means DefaultMaxCertificates.
	MaxCertificates int
}

// Policy decides. It is safe for concurrent use, and immutable but for what it
// remembers of signatures that were verified already, and for its Roll.
type Policy struct {
	roots         *x509.CertPool
	intermediates *x509.CertPool
	authorities   []*x509.Certificate // roots, then intermediates
	anchors       map[[sha256.Size]byte]bool
	issuers       map[[issuerDigestLen]byte]issuer // of authorities
	epoch         uint64
	instanceOIDs  []x509.OID
	lists         map[issuer]*revocationList
	responses     map[subject]*ocspResponse
	revocation    bool // whether anything about revocation is configured
	staleList     StaleList
	barred        map[string]struct{}
	byName        map[string]string // group by device
	byUnit        map[string]int    // of groups, by organizational unit
	groups        []string
	group         string
	refuseUnknown bool
	roll          Roll
	max           int
	seen          seen
}

// New validates a Config. Every error is an ErrConfig.
func New(c Config) (*Policy, error) {
	if len(c.Roots) == 0 {
		return nil, fmt.Errorf("%w: no root certificate", ErrConfig)
	}
	p := &Policy{
		roots:         x509.NewCertPool(),
		intermediates: x509.NewCertPool(),
		lists:         make(map[issuer]*revocationList),
		responses:     make(map[subject]*ocspResponse, min(len(c.OCSPResponses), MaxOCSPResponses)),
		staleList:     c.StaleList,
		barred:        make(map[string]struct{}, len(c.Barred)),
		group:         c.Group,
		refuseUnknown: c.RefuseUnknown,
		roll:          c.Roll,
		epoch:         c.Epoch,
		max:           c.MaxCertificates,
	}
	if p.max == 0 {
		p.max = DefaultMaxCertificates
	}
	if p.max < 1 || p.max > LimitMaxCertificates {
		return nil, fmt.Errorf("%w: certificates in a chain: %d is not in 1..%d", ErrConfig, c.MaxCertificates, LimitMaxCertificates)
	}
	if c.StaleList > StaleAdmit {
		return nil, fmt.Errorf("%w: stale revocation lists: unknown answer %d", ErrConfig, c.StaleList)
	}
	for i, root := range c.Roots {
		if err := checkAuthority(root); err != nil {
			return nil, fmt.Errorf("%w: root certificate %d: %w", ErrConfig, i+1, err)
		}
		p.roots.AddCert(root)
	}
	for i, intermediate := range c.Intermediates {
		if err := checkAuthority(intermediate); err != nil {
			return nil, fmt.Errorf("%w: intermediate certificate %d: %w", ErrConfig, i+1, err)
		}
		p.intermediates.AddCert(intermediate)
	}
	p.authorities = append(append(p.authorities, c.Roots...), c.Intermediates...)
	p.indexAuthorities(c.Roots)
	for i, oid := range c.InstanceOIDs {
		if oid.Equal(x509.OID{}) {
			return nil, fmt.Errorf("%w: instance OID %d is empty", ErrConfig, i+1)
		}
		if oid.Equal(anyPolicy) || oid.EqualASN1OID(anyExtendedKeyUsage) {
			return nil, fmt.Errorf("%w: instance OID %s stands for anything", ErrConfig, oid)
		}
		p.instanceOIDs = append(p.instanceOIDs, oid)
	}
	for i, list := range c.RevocationLists {
		if err := p.addRevocationList(list); err != nil {
			return nil, fmt.Errorf("%w: revocation list %d: %w", ErrConfig, i+1, err)
		}
	}
	if len(c.OCSPResponses) > MaxOCSPResponses {
		return nil, fmt.Errorf("%w: %d OCSP responses, at most %d", ErrConfig, len(c.OCSPResponses), MaxOCSPResponses)
	}
	for i, response := range c.OCSPResponses {
		if err := p.addOCSPResponse(response); err != nil {
			return nil, fmt.Errorf("%w: OCSP response %d: %w", ErrConfig, i+1, err)
		}
	}
	p.revocation = len(c.RevocationLists)+len(c.OCSPResponses) > 0
	for _, name := range c.Barred {
		device, err := DeviceName(name)
		if err != nil {
			return nil, fmt.Errorf("%w: barred device: %w", ErrConfig, err)
		}
		p.barred[device] = struct{}{}
	}
	if err := p.addGroups(c.Groups); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return p, nil
}

func checkAuthority(c *x509.Certificate) error {
	if c == nil || len(c.Raw) == 0 {
		return errors.New("was not parsed")
	}
	if !c.BasicConstraintsValid || !c.IsCA {
		return fmt.Errorf("%q is not a CA", c.Subject)
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("%q may not sign certificates", c.Subject)
	}
	if fault := keyFault(c.PublicKey); fault != "" {
		return fmt.Errorf("%q: %s", c.Subject, fault)
	}
	return nil
}

// Authorities are the SHA-1 hashes of the SubjectPublicKeyInfo of every root
// and intermediate, as a CERTREQ payload carries them (RFC 7296 section 3.7).
func (p *Policy) Authorities() [][sha1.Size]byte {
	hashes := make([][sha1.Size]byte, len(p.authorities))
	for i, c := range p.authorities {
		hashes[i] = sha1.Sum(c.RawSubjectPublicKeyInfo)
	}
	return hashes
}

// RevocationExpires is the earliest nextUpdate of all lists and of all OCSP
// responses that say good; false without any.
func (p *Policy) RevocationExpires() (time.Time, bool) {
	var first time.Time
	for _, list := range p.lists {
		if first.IsZero() || list.nextUpdate.Before(first) {
			first = list.nextUpdate
		}
	}
	for _, response := range p.responses {
		if response.status == ocsp.Good && (first.IsZero() || response.end.Before(first)) {
			first = response.end
		}
	}
	return first, !first.IsZero()
}

var anyExtendedKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37, 0}

// anyPolicy of RFC 5280 section 4.2.1.4.
var anyPolicy = mustOID(2, 5, 29, 32, 0)

func mustOID(arcs ...uint64) x509.OID {
	oid, err := x509.OIDFromInts(arcs)
	if err != nil {
		panic(err)
	}
	return oid
}
