package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// SetupOptions of Setup. Empty directories mean the defaults.
type SetupOptions struct {
	Dir, ConfigDir string
	// DNSNames and Addresses by which devices reach the gateway, at least one.
	DNSNames  []string
	Addresses []netip.Addr
	Key       ca.KeyAlgorithm
	// InstanceOID; the zero value means a new one.
	InstanceOID x509.OID
	// Passphrase for the CA's keys; empty leaves them in plain, mode 0600.
	Passphrase []byte
	// Replace what is there.
	Replace bool
}

// SetupResult tells the paths that a configuration needs, all absolute.
type SetupResult struct {
	InstanceOID string `json:"instance_oid"`
	// Root, Issuing and CRL are in PEM.
	Root    string `json:"root"`
	Issuing string `json:"issuing"`
	CRL     string `json:"crl"`
	// Certificate holds the gateway's certificate and the issuing CA's, in
	// PEM; Key its private key, PKCS#8 in PEM.
	Certificate string    `json:"certificate"`
	Key         string    `json:"key"`
	NotAfter    time.Time `json:"not_after"`
}

// Setup makes a CA and the certificate of a gateway. Without Replace it
// changes nothing if any of it exists.
func Setup(now time.Time, o SetupOptions) (SetupResult, error) {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.ConfigDir == "" {
		o.ConfigDir = DefaultConfigDir
	}
	// A configuration may be read from another working directory.
	for _, dir := range []*string{&o.Dir, &o.ConfigDir} {
		var err error
		if *dir, err = filepath.Abs(*dir); err != nil {
			return SetupResult{}, err
		}
	}
	request := ca.Request{Profile: ca.Gateway, DNSNames: o.DNSNames, Addresses: o.Addresses}
	base := filepath.Join(o.ConfigDir, "gateway")
	if !o.Replace {
		if err := checkAbsent(base+".pem", base+".key"); err != nil {
			return SetupResult{}, err
		}
	}
	key, err := ca.GenerateKey(o.Key)
	if err != nil {
		return SetupResult{}, err
	}
	request.PublicKey = key.Public()
	if err := ca.CheckRequest(request); err != nil {
		return SetupResult{}, err
	}
	a, err := ca.Create(now, ca.Options{
		Dir: o.Dir, Key: o.Key, InstanceOID: o.InstanceOID, Passphrase: o.Passphrase, Replace: o.Replace,
	})
	if err != nil {
		return SetupResult{}, err
	}
	defer a.Close()
	certificate, err := a.Issue(now, request)
	if err != nil {
		return SetupResult{}, err
	}
	if err := writePair(a, base, certificate, key, o.Replace); err != nil {
		return SetupResult{}, err
	}
	return SetupResult{
		InstanceOID: a.InstanceOID().String(),
		Root:        filepath.Join(o.Dir, ca.RootFile),
		Issuing:     filepath.Join(o.Dir, ca.IssuingFile),
		CRL:         filepath.Join(o.Dir, ca.CRLFile),
		Certificate: base + ".pem",
		Key:         base + ".key",
		NotAfter:    certificate.NotAfter,
	}, nil
}

// checkAbsent is asked before a certificate is issued for files that could
// not be written.
func checkAbsent(paths ...string) error {
	for _, path := range paths {
		_, err := os.Lstat(path)
		if err == nil {
			return fmt.Errorf("%s: %w", path, ca.ErrExists)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writePair writes base.key and base.pem, the key first: a certificate
// without its key is of no use to anyone.
func writePair(a *ca.CA, base string, certificate *x509.Certificate, key crypto.Signer, replace bool) error {
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return err
	}
	if key != nil {
		data, err := ca.EncodeKey(key)
		if err != nil {
			return err
		}
		defer clear(data)
		if err := ca.WriteFile(base+".key", data, 0o600, replace); err != nil {
			return err
		}
	}
	return ca.WriteFile(base+".pem", ca.EncodeCertificates(certificate, a.Issuing()), 0o644, replace)
}
