package pki

import (
	"net/netip"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// ManagerOptions of SetupManager.
type ManagerOptions struct {
	// Dir of the CA, which is there.
	Dir string
	// ConfigDir takes management.pem and .key for devices and administrators,
	// manager.pem and .key toward gateways, and admin.pem and .key.
	ConfigDir string
	// DNSNames and Addresses by which devices and administrators reach the server.
	DNSNames  []string
	Addresses []netip.Addr
	// Name of the manager, toward gateways.
	Name string
	// Admin is the name of an administrator to make a certificate for; empty:
	// there is one.
	Admin string
	Key   ca.KeyAlgorithm
	// Passphrase of the CA's keys, empty where they have none.
	Passphrase []byte
}

// ManagerResult tells the paths that a configuration needs, all absolute.
type ManagerResult struct {
	// Root and Issuing CA in PEM, and the installation's OID.
	Root, Issuing, InstanceOID string
	// Server's, Manager's and Admin's certificates with that of the issuing CA, and
	// keys.
	Server, ServerKey, Manager, ManagerKey, Admin, AdminKey string
}

// SetupManager makes the certificates of a device management server, that of the
// manager toward gateways and, if one is named, of an administrator. It overwrites
// nothing.
func SetupManager(now time.Time, o ManagerOptions) (ManagerResult, error) {
	var r ManagerResult
	for _, dir := range []*string{&o.Dir, &o.ConfigDir} {
		var err error
		if *dir, err = filepath.Abs(*dir); err != nil {
			return r, err
		}
	}
	server, manager, admin := filepath.Join(o.ConfigDir, "management"), filepath.Join(o.ConfigDir, "manager"), filepath.Join(o.ConfigDir, "admin")
	r = ManagerResult{
		Root: filepath.Join(o.Dir, ca.RootFile), Issuing: filepath.Join(o.Dir, ca.IssuingFile),
		Server: server + ".pem", ServerKey: server + ".key", Manager: manager + ".pem", ManagerKey: manager + ".key",
	}
	requests := pairs{
		server:  {Profile: ca.Server, DNSNames: o.DNSNames, Addresses: o.Addresses},
		manager: {Profile: ca.Manager, Name: o.Name},
	}
	absent := []string{r.Server, r.ServerKey, r.Manager, r.ManagerKey}
	if o.Admin != "" {
		r.Admin, r.AdminKey = admin+".pem", admin+".key"
		requests[admin] = &ca.Request{Profile: ca.Admin, Name: o.Admin}
		absent = append(absent, r.Admin, r.AdminKey)
	}
	if err := checkAbsent(absent...); err != nil {
		return r, err
	}
	keys, err := requests.keys(o.Key)
	if err != nil {
		return r, err
	}
	a, err := ca.Open(o.Dir, func() ([]byte, error) { return append([]byte(nil), o.Passphrase...), nil })
	if err != nil {
		return r, err
	}
	defer a.Close()
	r.InstanceOID = a.InstanceOID().String()
	return r, requests.issue(now, a, keys)
}
