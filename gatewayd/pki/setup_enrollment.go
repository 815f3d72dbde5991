package pki

import (
	"crypto"
	"errors"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// EnrollmentOptions of SetupEnrollment.
type EnrollmentOptions struct {
	// Dir of the CA: made where there is none.
	Dir string
	// ConfigDir takes enrollment.pem and .key, admin.pem and .key.
	ConfigDir string
	// DNSNames and Addresses by which devices and administrators reach the server.
	DNSNames  []string
	Addresses []netip.Addr
	// Admin is the name of the first administrator.
	Admin string
	Key   ca.KeyAlgorithm
	// Passphrase of the CA's keys, empty where they have none.
	Passphrase []byte
}

// EnrollmentResult tells the paths that a configuration needs, all absolute.
type EnrollmentResult struct {
	// Dir of the CA, and its Root in PEM.
	Dir, Root string
	// Made: the CA is new.
	Made bool
	// Server's and Admin's certificates with that of the issuing CA, and keys.
	Server, ServerKey, Admin, AdminKey string
}

// SetupEnrollment makes the certificates of an enrollment server and of its
// first administrator, and a CA if there is none. It overwrites nothing.
func SetupEnrollment(now time.Time, o EnrollmentOptions) (EnrollmentResult, error) {
	var r EnrollmentResult
	for _, dir := range []*string{&o.Dir, &o.ConfigDir} {
		var err error
		if *dir, err = filepath.Abs(*dir); err != nil {
			return r, err
		}
	}
	server, admin := filepath.Join(o.ConfigDir, "enrollment"), filepath.Join(o.ConfigDir, "admin")
	r = EnrollmentResult{
		Dir: o.Dir, Root: filepath.Join(o.Dir, ca.RootFile),
		Server: server + ".pem", ServerKey: server + ".key", Admin: admin + ".pem", AdminKey: admin + ".key",
	}
	if err := checkAbsent(r.Server, r.ServerKey, r.Admin, r.AdminKey); err != nil {
		return r, err
	}
	requests := pairs{
		server: {Profile: ca.Server, DNSNames: o.DNSNames, Addresses: o.Addresses},
		admin:  {Profile: ca.Admin, Name: o.Admin},
	}
	keys, err := requests.keys(o.Key)
	if err != nil {
		return r, err
	}
	a, err := ca.Open(o.Dir, func() ([]byte, error) { return append([]byte(nil), o.Passphrase...), nil })
	if errors.Is(err, ca.ErrNoCA) {
		r.Made = true
		a, err = ca.Create(now, ca.Options{Dir: o.Dir, Key: o.Key, Passphrase: o.Passphrase})
	}
	if err != nil {
		return r, err
	}
	defer a.Close()
	return r, requests.issue(now, a, keys)
}

// pairs of certificates and keys that a server needs, by their path without ending.
type pairs map[string]*ca.Request

// keys for all, before anything is made for one.
func (p pairs) keys(kind ca.KeyAlgorithm) (map[string]crypto.Signer, error) {
	keys := map[string]crypto.Signer{}
	for base, request := range p {
		key, err := ca.GenerateKey(kind)
		if err != nil {
			return nil, err
		}
		keys[base], request.PublicKey = key, key.Public()
		if err := ca.CheckRequest(*request); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (p pairs) issue(now time.Time, a *ca.CA, keys map[string]crypto.Signer) error {
	for base, request := range p {
		certificate, err := a.Issue(now, *request)
		if err != nil {
			return err
		}
		if err := writePair(a, base, certificate, keys[base], false); err != nil {
			return err
		}
	}
	return nil
}
