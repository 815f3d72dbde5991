package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
)

// maxFile of certificates or revocation lists in octets.
const maxFile = 64 << 20

// soon is when a warning about an end of validity begins.
const soon = 14 * 24 * time.Hour

// credentials reads the gateway's own certificates and keys.
func (b *builder) credentials() []ike.Credential {
	var out []ike.Credential
	for i, c := range b.Gateway.Identity.Credentials {
		key := fmt.Sprintf("gateway.identity.credentials[%d]", i)
		chain := read(b, key+".certificate", c.Certificate, admit.ParseCertificates)
		signer := b.privateKey(key+".key", c.Key)
		if len(chain) == 0 || signer == nil {
			continue
		}
		leaf := chain[0]
		if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
			b.say(key+".key", "got a key that is not of the certificate %s (%s), expected its key", c.Certificate, leaf.Subject)
			continue
		}
		b.checkOwn(key+".certificate", leaf)
		credential := ike.Credential{Signer: signer}
		for j, certificate := range chain {
			if j > 0 && chain[j-1].CheckSignatureFrom(certificate) != nil {
				b.say(key+".certificate", "got %q after %q, which it didn't sign, expected each certificate to be followed by its issuer's", certificate.Subject, chain[j-1].Subject)
			}
			// The root stays at home: whoever trusts it has it.
			if j == 0 || string(certificate.RawIssuer) != string(certificate.RawSubject) {
				credential.Chain = append(credential.Chain, certificate.Raw)
			}
		}
		b.chains = append(b.chains, chain)
		out = append(out, credential)
	}
	return out
}

// authorities are the CAs above a chain's own certificate, by the SHA-1 of
// their SubjectPublicKeyInfo: those in the chain, and among the configured ones
// whoever issued its last.
func authorities(chain, cas []*x509.Certificate) [][20]byte {
	var out [][20]byte
	above := slices.Clone(chain[1:])
	for last := chain[len(chain)-1]; last != nil; {
		var issuer *x509.Certificate
		for _, ca := range cas {
			if !slices.ContainsFunc(above, ca.Equal) && !ca.Equal(last) && last.CheckSignatureFrom(ca) == nil {
				issuer = ca
				above = append(above, ca)
				break
			}
		}
		last = issuer
	}
	for _, ca := range above {
		out = append(out, sha1.Sum(ca.RawSubjectPublicKeyInfo))
	}
	return out
}

// checkOwn wants the identity in the certificate (RFC 4945 section 3.1) and
// warns about what clients won't take.
func (b *builder) checkOwn(key string, leaf *x509.Certificate) {
	id := b.Gateway.Identity.ID
	named := leaf.VerifyHostname(id) == nil
	if strings.Contains(id, "@") {
		named = slices.Contains(leaf.EmailAddresses, id)
	}
	if !named {
		b.say(key, "got a certificate for %s, expected gateway.identity.id (%s) among its subject alternative names", alternativeNames(leaf), id)
	}
	switch {
	case b.now.Before(leaf.NotBefore):
		b.warn(key, "not valid before %s; clients will refuse it until then", leaf.NotBefore.Format(time.RFC3339))
	case b.now.After(leaf.NotAfter):
		b.warn(key, "expired on %s; clients refuse it", leaf.NotAfter.Format(time.RFC3339))
	case b.now.Add(soon).After(leaf.NotAfter):
		b.warn(key, "expires on %s", leaf.NotAfter.Format(time.RFC3339))
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		b.warn(key, "has no extended key usage serverAuth; Windows, iOS and macOS refuse it")
	}
}

func alternativeNames(c *x509.Certificate) string {
	names := append(slices.Clone(c.DNSNames), c.EmailAddresses...)
	for _, ip := range c.IPAddresses {
		names = append(names, net.IP.String(ip))
	}
	if len(names) == 0 {
		return "no name"
	}
	return strings.Join(names, ", ")
}

// privateKey reads a key that only its owner may read.
func (b *builder) privateKey(key, name string) crypto.Signer {
	path := b.Path(name)
	info, err := os.Stat(path)
	if err != nil {
		b.say(key, "%s", fileError(path, err))
		return nil
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		b.say(key, "got %s with mode %04o, expected 0600: others could read the key; try `chmod 600 %s`", path, mode, path)
		return nil
	}
	data, err := readFile(path)
	if err != nil {
		b.say(key, "%s", fileError(path, err))
		return nil
	}
	defer clear(data)
	signer, err := ParsePrivateKey(data)
	if err != nil {
		b.say(key, "got %s, which is %v, expected an ECDSA (P-256, P-384, P-521), Ed25519 or RSA key in PEM, PKCS #8", path, err)
		return nil
	}
	return signer
}

// ParsePrivateKey reads the first private key of PEM data, in PKCS #8, PKCS #1
// or SEC 1 form.
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("without a private key")
		}
		var parsed any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			parsed, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("encrypted with a password")
		default:
			continue // EC PARAMETERS, a certificate
		}
		clear(block.Bytes)
		if err != nil {
			return nil, err
		}
		switch k := parsed.(type) {
		case *ecdsa.PrivateKey:
			return k, nil
		case *rsa.PrivateKey:
			return k, nil
		case ed25519.PrivateKey:
			return k, nil
		}
		return nil, fmt.Errorf("a key of kind %T", parsed)
	}
}

// trust reads everything about it.
func (b *builder) trust() admit.Config {
	t := &b.Gateway.Trust
	c := admit.Config{Barred: t.Barred, MaxCertificates: t.MaxCertificates}
	for i, name := range t.Roots {
		c.Roots = append(c.Roots, read(b, fmt.Sprintf("gateway.trust.roots[%d]", i), name, admit.ParseCertificates)...)
	}
	for i, name := range t.Intermediates {
		c.Intermediates = append(c.Intermediates, read(b, fmt.Sprintf("gateway.trust.intermediates[%d]", i), name, admit.ParseCertificates)...)
	}
	for i, name := range t.CRLs {
		c.RevocationLists = append(c.RevocationLists, read(b, fmt.Sprintf("gateway.trust.crls[%d]", i), name, admit.ParseRevocationLists)...)
	}
	for i, name := range t.OCSPResponses {
		c.OCSPResponses = append(c.OCSPResponses, read(b, fmt.Sprintf("gateway.trust.ocsp_responses[%d]", i), name, oneResponse)...)
	}
	for _, oid := range t.InstanceOIDs {
		c.InstanceOIDs = append(c.InstanceOIDs, oid.OID)
	}
	if t.StaleCRL == StaleCRLAdmit {
		c.StaleList = admit.StaleAdmit
	}
	b.cas = slices.Concat(c.Intermediates, c.Roots)
	switch {
	case b.Managed(): // the manager tells of revocations
	case len(t.CRLs) == 0 && len(t.OCSPResponses) == 0:
		b.warn("gateway.trust.crls", "none: a revoked certificate stays good until it expires")
	case len(t.CRLs) == 0:
		b.warn("gateway.trust.crls", "none: devices without a response in gateway.trust.ocsp_responses are refused")
	}
	return c
}

// policy of the trust and of who is in which group.
func (b *builder) policy(m *Material, before *Built) *admit.Policy {
	c := m.trust
	if len(b.roots) > 0 {
		c.Roots, c.Intermediates = b.roots, slices.Clone(b.intermediates)
		if len(c.RevocationLists)+len(c.OCSPResponses) > 0 {
			// Lists in files go on counting, and are held against those who signed them.
			c.Intermediates = slices.Concat(c.Intermediates, m.trust.Roots, m.trust.Intermediates)
		}
	}
	if b.unused > 0 {
		b.warn("gateway.management.device_roots", "file: a manager has pushed roots (%d), and they aren't used", b.unused)
	}
	c.Epoch = uint64(b.Gateway.Resumption.Epoch)
	b.Gateway.Static.admitGroups(&c)
	b.admit = c
	policy, err := (*admit.Policy)(nil), error(nil)
	if before != nil && before.Material == m && reflect.DeepEqual(before.admit.Groups, c.Groups) &&
		before.admit.Group == c.Group && before.admit.RefuseUnknown == c.RefuseUnknown && before.admit.Epoch == c.Epoch &&
		slices.EqualFunc(before.admit.Roots, c.Roots, (*x509.Certificate).Equal) &&
		slices.EqualFunc(before.admit.Intermediates, c.Intermediates, (*x509.Certificate).Equal) {
		policy = before.Admit
	} else if policy, err = admit.New(c); err != nil {
		b.say("gateway.trust", "%v", err)
		return nil
	}
	t := &b.Gateway.Trust
	if end, ok := policy.RevocationExpires(); ok && b.now.After(end) {
		b.warn("gateway.trust.stale_crl", "a revocation list or an OCSP response was due for renewal on %s; without a newer one: %s its devices", end.Format(time.RFC3339), t.StaleCRL)
	}
	return policy
}

func oneResponse(data []byte) ([][]byte, error) {
	return [][]byte{data}, admit.CheckOCSPResponse(data)
}

// read opens and parses a file, and says what is wrong with it under its key.
func read[T any](b *builder, key, name string, parse func([]byte) ([]T, error)) []T {
	path := b.Path(name)
	data, err := readFile(path)
	if err != nil {
		b.say(key, "%s", fileError(path, err))
		return nil
	}
	list, err := parse(data)
	if err != nil {
		b.say(key, "%s: %v", path, err)
	}
	return list
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("longer than %d bytes", maxFile)
	}
	return data, err
}

func fileError(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("got %s, which does not exist, expected a file", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("got %s, which may not be read by this user, expected a readable file", path)
	}
	return fmt.Sprintf("got %s, which can't be read: %v", path, err)
}
