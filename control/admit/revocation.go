package admit

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"
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
	if len(p.lists) == 0 {
		return nil
	}
	var stale *Refusal
	for i, c := range path[:len(path)-1] {
		list, ok := p.lists[issuerOf(path[i+1])]
		if !ok {
			if i == 0 {
				return refuse(ReasonRevocationUnknown, "no list of %q", path[i+1].Subject)
			}
			continue
		}
		if reason, revoked := list.serials[string(c.SerialNumber.Bytes())]; revoked {
			return refuse(ReasonRevoked, "%q, serial %x, reason %d", c.Subject, c.SerialNumber, reason)
		}
		if stale == nil && p.staleList == StaleRefuse && now.After(list.nextUpdate) {
			stale = refuse(ReasonStaleList, "list of %q was due at %s", path[i+1].Subject, list.nextUpdate.UTC().Format(time.RFC3339))
		}
	}
	return stale
}
