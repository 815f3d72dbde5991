package admit

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Limits on OCSP responses. Each costs one or two signature checks in New.
const (
	// MaxOCSPResponses in a Config.
	MaxOCSPResponses = 16384
	// MaxOCSPResponseBytes is the longest response that is parsed, in DER.
	MaxOCSPResponseBytes = 16384
)

const (
	// ocspLifetime of a response that names no nextUpdate.
	ocspLifetime = 24 * time.Hour
	// ocspSkew is how far the responder's clock may be ahead.
	ocspSkew = 5 * time.Minute
)

// ocspResponse is what an issuer, or a responder on its behalf, says of one
// certificate.
type ocspResponse struct {
	status     int // ocsp.Good, Revoked or Unknown
	reason     int // why it is revoked
	thisUpdate time.Time
	// The response is fresh from begin to end, both included.
	begin, end time.Time
}

func (r *ocspResponse) fresh(now time.Time) bool {
	return !now.Before(r.begin) && !now.After(r.end)
}

// subject of a response: a certificate by its issuer and big-endian serial
// number.
type subject struct {
	issuer issuer
	serial string
}

// certID of RFC 6960 section 4.1.1.
type certID struct {
	HashAlgorithm pkix.AlgorithmIdentifier
	NameHash      []byte
	KeyHash       []byte
	Serial        *big.Int
}

// parsedOCSP is a response and the two fields that package ocsp drops.
type parsedOCSP struct {
	*ocsp.Response
	nameHash, keyHash []byte
}

// CheckOCSPResponse says whether New could take a response: one in DER, about
// one certificate (as in RFC 5019 section 2.2.1). Who signed it is for New to
// find out. The error is an ErrOCSP.
func CheckOCSPResponse(der []byte) error {
	_, err := parseOCSP(der)
	return err
}

func parseOCSP(der []byte) (*parsedOCSP, error) {
	if len(der) > MaxOCSPResponseBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrOCSP, len(der), MaxOCSPResponseBytes)
	}
	if bytes.HasPrefix(der, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("%w: it is PEM, want DER", ErrOCSP)
	}
	response, err := ocsp.ParseResponse(der, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOCSP, err)
	}
	// Extra elements at the end of a SEQUENCE are skipped: package ocsp has
	// read the rest of each single response.
	var data struct {
		Version     int `asn1:"optional,default:0,explicit,tag:0"`
		ResponderID asn1.RawValue
		ProducedAt  time.Time `asn1:"generalized"`
		Responses   []struct{ ID certID }
		Extensions  []pkix.Extension `asn1:"optional,explicit,tag:1"`
	}
	if _, err := asn1.Unmarshal(response.TBSResponseData, &data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOCSP, err)
	}
	if len(data.Responses) != 1 {
		return nil, fmt.Errorf("%w: about %d certificates, want one", ErrOCSP, len(data.Responses))
	}
	for _, extension := range data.Extensions {
		if extension.Critical {
			return nil, fmt.Errorf("%w: critical extension %s", ErrOCSP, extension.Id)
		}
	}
	if response.SerialNumber.Sign() < 0 {
		return nil, fmt.Errorf("%w: negative serial number", ErrOCSP)
	}
	return &parsedOCSP{response, data.Responses[0].ID.NameHash, data.Responses[0].ID.KeyHash}, nil
}

// addOCSPResponse belongs after the revocation lists: they may list a
// responder. What such a responder calls good counts as not said.
func (p *Policy) addOCSPResponse(der []byte) error {
	parsed, err := parseOCSP(der)
	if err != nil {
		return err
	}
	ca, err := p.issuerOfResponse(parsed)
	if err != nil {
		return err
	}
	responder, err := authorizeResponder(parsed.Response, ca)
	if err != nil {
		return fmt.Errorf("%w: of %q, serial %x: %w", ErrOCSP, ca.Subject, parsed.SerialNumber, err)
	}
	next := &ocspResponse{
		status:     parsed.Status,
		reason:     parsed.RevocationReason,
		thisUpdate: parsed.ThisUpdate,
		begin:      parsed.ThisUpdate.Add(-ocspSkew),
		end:        parsed.NextUpdate,
	}
	if next.end.IsZero() {
		next.end = next.thisUpdate.Add(ocspLifetime)
	}
	key := subject{issuerOf(ca), string(parsed.SerialNumber.Bytes())}
	if responder != nil {
		if list, ok := p.lists[key.issuer]; ok && next.status != ocsp.Revoked {
			if _, revoked := list.serials[string(responder.SerialNumber.Bytes())]; revoked {
				return nil
			}
		}
		if responder.NotBefore.After(next.begin) {
			next.begin = responder.NotBefore
		}
		if responder.NotAfter.Before(next.end) {
			next.end = responder.NotAfter
		}
	}
	if current, ok := p.responses[key]; ok && !next.newerThan(current) {
		return nil
	}
	p.responses[key] = next
	return nil
}

// newerThan prefers, of two that were made at the same time, what admits less.
func (r *ocspResponse) newerThan(other *ocspResponse) bool {
	if !r.thisUpdate.Equal(other.thisUpdate) {
		return r.thisUpdate.After(other.thisUpdate)
	}
	return r.status == ocsp.Revoked || other.status == ocsp.Good
}

// issuerOfResponse finds the CA whose name and key the response speaks of. The
// hashes may be SHA-1: they only select, the signature decides.
func (p *Policy) issuerOfResponse(r *parsedOCSP) (*x509.Certificate, error) {
	for _, ca := range p.authorities {
		var info struct {
			Algorithm pkix.AlgorithmIdentifier
			PublicKey asn1.BitString
		}
		if _, err := asn1.Unmarshal(ca.RawSubjectPublicKeyInfo, &info); err != nil {
			return nil, fmt.Errorf("key of %q: %w", ca.Subject, err)
		}
		if bytes.Equal(digest(r.IssuerHash, ca.RawSubject), r.nameHash) &&
			bytes.Equal(digest(r.IssuerHash, info.PublicKey.RightAlign()), r.keyHash) {
			return ca, nil
		}
	}
	return nil, fmt.Errorf("%w: serial %x of an issuer which is no configured root or intermediate", ErrOCSP, r.SerialNumber)
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// authorizeResponder wants a response to be signed by the CA itself, or by a
// responder whose certificate the CA issued for that purpose (RFC 6960 section
// 4.2.2.2); it returns the latter. Package ocsp has verified the signature with
// the key of the embedded certificate, and nothing else about that certificate.
func authorizeResponder(r *ocsp.Response, ca *x509.Certificate) (*x509.Certificate, error) {
	// CheckSignature takes SHA-1.
	if !slices.Contains(acceptedSignatures, r.SignatureAlgorithm) {
		return nil, fmt.Errorf("signature algorithm %s", r.SignatureAlgorithm)
	}
	responder := r.Certificate
	if responder == nil {
		return nil, r.CheckSignatureFrom(ca)
	}
	if issuerOf(responder) == issuerOf(ca) {
		return nil, nil
	}
	if !bytes.Equal(responder.RawIssuer, ca.RawSubject) {
		return nil, fmt.Errorf("responder %q has another issuer", responder.Subject)
	}
	if !slices.Contains(acceptedSignatures, responder.SignatureAlgorithm) {
		return nil, fmt.Errorf("responder %q: signature algorithm %s", responder.Subject, responder.SignatureAlgorithm)
	}
	if err := ca.CheckSignature(responder.SignatureAlgorithm, responder.RawTBSCertificate, responder.Signature); err != nil {
		return nil, fmt.Errorf("responder %q: %w", responder.Subject, err)
	}
	if fault := keyFault(responder.PublicKey); fault != "" {
		return nil, fmt.Errorf("responder %q: %s", responder.Subject, fault)
	}
	if len(responder.UnhandledCriticalExtensions) > 0 {
		return nil, fmt.Errorf("responder %q: critical extensions %v", responder.Subject, responder.UnhandledCriticalExtensions)
	}
	// Neither anyExtendedKeyUsage nor the lack of the extension is enough.
	if !slices.Contains(responder.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return nil, fmt.Errorf("responder %q has no extended key usage OCSPSigning", responder.Subject)
	}
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if responder.KeyUsage != 0 && responder.KeyUsage&signs == 0 {
		return nil, errors.New("responder has key usage without digitalSignature")
	}
	return responder, nil
}
