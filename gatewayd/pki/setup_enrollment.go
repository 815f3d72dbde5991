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
	requests := map[string]*ca.Request{
		server: {Profile: ca.Server, DNSNames: o.DNSNames, Addresses: o.Addresses},
		admin:  {Profile: ca.Admin, Name: o.Admin},
	}
	keys := map[string]crypto.Signer{}
	for base, request := range requests {
		key, err := ca.GenerateKey(o.Key)
		if err != nil {
			return r, err
		}
		keys[base], request.PublicKey = key, key.Public()
		if err := ca.CheckRequest(*request); err != nil {
			return r, err
		}
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
	for base, request := range requests {
		certificate, err := a.Issue(now, *request)
		if err != nil {
			return r, err
		}
		if err := writePair(a, base, certificate, keys[base], false); err != nil {
			return r, err
		}
	}
	return r, nil
}
