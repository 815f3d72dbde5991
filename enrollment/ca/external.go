package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// CreateRequest makes a directory for an issuing CA whose certificate comes
// from a CA that is not ours: its key, the request for its certificate
// (PKCS#10, returned in PEM), and no root. Import finishes it. With a key in a
// token signer is given, and none is made; else it is nil.
func CreateRequest(now time.Time, o Options, signer crypto.Signer) ([]byte, error) {
	var csr []byte
	err := create(now, &o, func(dir string) error {
		key := signer
		if key == nil {
			var err error
			if key, err = GenerateKey(o.Key); err != nil {
				return err
			}
		}
		der, err := requestAuthority(uniqueName(o.Name)+" Issuing CA", o.InstanceOID, key)
		if err != nil {
			return err
		}
		csr = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		if signer == nil {
			// A PKCS#12 file wants a certificate beside its key; there is none
			// yet, so one that the key has signed for itself stands in.
			template := authorityTemplate(now, "pending", issuingLifetime)
			pending, err := signAuthority(template, template, key, key)
			if err != nil {
				return err
			}
			if err := writeKey(filepath.Join(dir, issuingKey), key, pending, o.Passphrase); err != nil {
				return err
			}
		}
		for file, data := range map[string][]byte{
			RequestFile: csr, InstanceFile: []byte(o.InstanceOID.String() + "\n"),
		} {
			if err := WriteFile(filepath.Join(dir, file), data, 0o644, false); err != nil {
				return err
			}
		}
		return WriteFile(filepath.Join(dir, JournalFile), nil, 0o600, false)
	})
	return csr, err
}

// requestAuthority says in extensions what the certificate needs: a CA that
// copies them from the request does right.
func requestAuthority(name string, instance x509.OID, key crypto.Signer) ([]byte, error) {
	type constraints struct {
		IsCA       bool
		MaxPathLen int
	}
	basic, err := asn1.Marshal(constraints{true, 0})
	if err != nil {
		return nil, err
	}
	// keyCertSign and cRLSign are bits 5 and 6 (RFC 5280 section 4.2.1.3).
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x06}, BitLength: 7})
	if err != nil {
		return nil, err
	}
	oid, err := instance.MarshalBinary()
	if err != nil {
		return nil, err
	}
	policies, err := asn1.Marshal([][]asn1.RawValue{{{Tag: asn1.TagOID, Bytes: oid}}})
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: basic},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: policies},
		},
	}, key)
}

// Import puts the certificate of an issuing CA into its directory: chain from
// the issuing CA to a self-signed root, both included. The directory comes from
// CreateRequest, or it has a certificate of the same key, which is replaced:
// then serial numbers and list numbers go on. signer and passphrase are as for
// OpenSigner and Open; signer is nil for a key in a file.
func Import(now time.Time, dir string, chain []*x509.Certificate, signer crypto.Signer, passphrase func() ([]byte, error)) (*CA, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("%w: %d certificates, want those from the issuing CA to the root", ErrChain, len(chain))
	}
	if _, err := os.Stat(filepath.Join(dir, JournalFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoCA)
	}
	// A renewed certificate may not change the OID of the devices that are out.
	before := chain[0]
	if old, err := readCertificate(dir, IssuingFile); err == nil {
		before = old
	}
	instance, err := readInstance(dir, before)
	if err != nil {
		return nil, err
	}
	if err := checkImported(now, chain, instance); err != nil {
		return nil, err
	}
	if signer == nil {
		if signer, err = readKey(filepath.Join(dir, issuingKey), passphrase); err != nil {
			return nil, err
		}
	}
	if _, err := NewIssuer(signer, chain, instance); err != nil {
		return nil, err
	}
	if err := WriteFile(filepath.Join(dir, InstanceFile), []byte(instance.String()+"\n"), 0o644, true); err != nil {
		return nil, err
	}
	root := chain[len(chain)-1]
	// The last one makes it a CA: Open looks for it first.
	for _, f := range []struct {
		name         string
		certificates []*x509.Certificate
	}{{RootFile, []*x509.Certificate{root}}, {ChainFile, chain}, {IssuingFile, chain[:1]}} {
		if err := WriteFile(filepath.Join(dir, f.name), EncodeCertificates(f.certificates...), 0o644, true); err != nil {
			return nil, err
		}
	}
	a, err := OpenSigner(dir, signer)
	if err != nil {
		return nil, err
	}
	err = a.locked(func() error {
		if a.journal.handedOver != "" {
			return nil
		}
		err := a.journal.append(entry{
			Time: now.UTC(), Event: eventInit, SHA256: fingerprint(root),
			InstanceOID: instance.String(), NotAfter: root.NotAfter,
		})
		if err != nil {
			return err
		}
		return a.publish(now)
	})
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

var anyPolicy = []uint64{2, 5, 29, 32, 0}

// checkImported: what would make every device certificate below it useless.
func checkImported(now time.Time, chain []*x509.Certificate, instance x509.OID) error {
	for _, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return fmt.Errorf("%w: %q is valid from %s to %s", ErrChain, c.Subject, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
		}
		if len(c.UnhandledCriticalExtensions) > 0 {
			return fmt.Errorf("%w: %q has critical extensions that gateways don't know: %v", ErrChain, c.Subject, c.UnhandledCriticalExtensions)
		}
	}
	any, err := x509.OIDFromInts(anyPolicy)
	if err != nil {
		return err
	}
	for _, c := range chain[:len(chain)-1] {
		covers := func(policy x509.OID) bool { return policy.Equal(instance) || policy.Equal(any) }
		if len(c.Policies) > 0 && !slices.ContainsFunc(c.Policies, covers) {
			return fmt.Errorf("%w: %q is limited to policies %v, without the instance OID %s", ErrChain, c.Subject, c.Policies, instance)
		}
	}
	return nil
}
