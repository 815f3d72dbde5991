package admit

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"
)

// issuer of certificates and of revocation lists: a name and a key. Two CAs
// may share a name; one CA may have several certificates.
type issuer struct {
	subject string // RawSubject
	key     [sha256.Size]byte
}

func issuerOf(ca *x509.Certificate) issuer {
	return issuer{string(ca.RawSubject), sha256.Sum256(ca.RawSubjectPublicKeyInfo)}
}

type revocationList struct {
	number     *big.Int // nil in a version 1 list
	thisUpdate time.Time
	nextUpdate time.Time
	serials    map[string]int // reason code by big-endian serial number
}

// addRevocationList files a list under every authority that could have signed
// it: certificates of one key are one issuer.
func (p *Policy) addRevocationList(list *x509.RevocationList) error {
	if list == nil || len(list.Raw) == 0 {
		return errors.New("was not parsed")
	}
	if list.NextUpdate.IsZero() {
		return fmt.Errorf("of %q has no nextUpdate", list.Issuer)
	}
	// A delta, indirect or partial list says so in a critical extension, and
	// a list that is not understood says nothing of anyone (RFC 5280 sections
	// 5.2 and 5.3).
	for _, extension := range list.Extensions {
		if extension.Critical {
			return fmt.Errorf("of %q has critical extension %s; only complete lists are taken", list.Issuer, extension.Id)
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical {
				return fmt.Errorf("of %q has an entry with critical extension %s", list.Issuer, extension.Id)
			}
		}
	}
	signer, err := p.signerOf(list)
	if err != nil {
		return err
	}
	next := &revocationList{
		number:     list.Number,
		thisUpdate: list.ThisUpdate,
		nextUpdate: list.NextUpdate,
	}
	key := issuerOf(signer)
	if current, ok := p.lists[key]; ok && !next.newerThan(current) {
		return nil
	}
	next.serials = make(map[string]int, len(list.RevokedCertificateEntries))
	for _, entry := range list.RevokedCertificateEntries {
		next.serials[string(entry.SerialNumber.Bytes())] = entry.ReasonCode
	}
	p.lists[key] = next
	return nil
}

func (p *Policy) signerOf(list *x509.RevocationList) (*x509.Certificate, error) {
	var fault error
	for _, ca := range p.authorities {
		if !bytes.Equal(ca.RawSubject, list.RawIssuer) {
			continue
		}
		if err := list.CheckSignatureFrom(ca); err != nil {
			fault = err
			continue
		}
		return ca, nil
	}
	if fault != nil {
		return nil, fmt.Errorf("of %q: %w", list.Issuer, fault)
	}
	return nil, fmt.Errorf("of %q, which is no configured root or intermediate", list.Issuer)
}

func (l *revocationList) newerThan(other *revocationList) bool {
	if l.number != nil && other.number != nil {
		return l.number.Cmp(other.number) > 0
	}
	return l.thisUpdate.After(other.thisUpdate)
}

// checkRevocation asks each issuer on the path of what it issued. A list
// whose thisUpdate lies ahead is taken as it is: it knows more, not less.
func (p *Policy) checkRevocation(now time.Time, path []*x509.Certificate) *Refusal {
	if !p.revocation && p.roll == nil {
		return nil
	}
	var stale *Refusal
	for i, c := range path[:len(path)-1] {
		refusal := p.checkStatus(now, c, path[i+1], i == 0)
		if refusal == nil {
			continue
		}
		// A certificate further up may be revoked, which says more.
		if refusal.Reason != ReasonStaleList {
			return refusal
		}
		if stale == nil {
			stale = refusal
		}
	}
	return stale
}

// checkStatus of one certificate. A list or a response is needed for a leaf;
// an intermediate that neither speaks of is let pass.
func (p *Policy) checkStatus(now time.Time, c, ca *x509.Certificate, leaf bool) *Refusal {
	key := subject{issuerOf(ca), string(c.SerialNumber.Bytes())}
	return p.checkSubject(now, key, leaf, c.Subject.String(), ca.Subject.String())
}

// checkSubject looks a certificate up; name and caName are for people.
func (p *Policy) checkSubject(now time.Time, key subject, leaf bool, name, caName string) *Refusal {
	if p.roll != nil {
		if reason, revoked := p.roll.Revoked(key.issuer.key, []byte(key.serial)); revoked {
			return refuse(ReasonRevoked, "%q, serial %x, reason %d on the roll", name, key.serial, reason)
		}
	}
	list, response := p.lists[key.issuer], p.responses[key]
	if list != nil {
		if reason, revoked := list.serials[key.serial]; revoked {
			return refuse(ReasonRevoked, "%q, serial %x, reason %d", name, key.serial, reason)
		}
	}
	good := false
	if response != nil {
		if response.status == ocsp.Revoked {
			return refuse(ReasonRevoked, "%q, serial %x, reason %d in an OCSP response", name, key.serial, response.reason)
		}
		good = response.status == ocsp.Good
	}
	switch {
	case good && response.fresh(now):
		return nil
	case list != nil:
		if p.staleList == StaleRefuse && now.After(list.nextUpdate) {
			return refuse(ReasonStaleList, "list of %q was due at %s", caName, list.nextUpdate.UTC().Format(time.RFC3339))
		}
		return nil
	case good:
		if p.staleList == StaleRefuse {
			return refuse(ReasonStaleList, "OCSP response about %q is good from %s to %s", name,
				response.begin.UTC().Format(time.RFC3339), response.end.UTC().Format(time.RFC3339))
		}
		return nil
	case response != nil:
		return refuse(ReasonRevocationUnknown, "%q does not know %q", caName, name)
	case leaf && p.revocation:
		return refuse(ReasonRevocationUnknown, "no list of %q, no OCSP response about %q", caName, name)
	}
	return nil
}
