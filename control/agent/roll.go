package agent

import (
	"crypto/sha256"

	"github.com/roamgate/roamgate/control/gcm"
)

// Device that is authorised. It is looked up in what was taken last, so that a
// change costs the change.
func (a *Agent) Device(name string) (gcm.Authorisation, bool) {
	r, ok := a.device(gcm.DeviceKey(name))
	if !ok {
		return gcm.Authorisation{}, false
	}
	d, ok := r.(gcm.Authorisation)
	return d, ok
}

// Revoked says whether a certificate is, and its CRLReason (RFC 5280 section
// 5.3.1). The issuer is the SHA-256 of its SubjectPublicKeyInfo, the serial
// number big-endian without leading zeros.
func (a *Agent) Revoked(issuer [sha256.Size]byte, serial []byte) (reason int, revoked bool) {
	r, ok := a.device(gcm.RevocationKey(issuer, string(serial)))
	if !ok {
		return 0, false
	}
	v, ok := r.(gcm.Revocation)
	return int(v.Reason), ok
}

// device is a record of that section, decoded.
func (a *Agent) device(key []byte) (any, bool) {
	s := a.sections[gcm.Devices]
	s.view.RLock()
	value, ok := s.set.Get(key)
	s.view.RUnlock()
	if !ok {
		return nil, false
	}
	r, err := gcm.Decode(gcm.Devices, gcm.Record{Key: key, Value: value})
	// What is in a set was decoded before.
	return r, err == nil
}
