package pushed

import (
	"crypto/sha256"
	"sync/atomic"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// Devices are looked up in the section of devices.
type Devices interface {
	Device(name string) (gcm.Authorisation, bool)
	Revoked(issuer [sha256.Size]byte, serial []byte) (reason int, revoked bool)
}

// Roll makes devices that were pushed an admit.Roll. A device whose group isn't
// in force, because its access list is still to come, or gone, is in quarantine.
// The zero value knows nobody. Its methods are safe for concurrent use.
type Roll struct {
	devices atomic.Pointer[Devices]
	groups  atomic.Pointer[map[string]bool]
}

var _ admit.Roll = (*Roll)(nil)

// Of devices from now on.
func (r *Roll) Of(d Devices) { r.devices.Store(&d) }

// InForce are the names of groups that there are, and says whether these are
// others than before.
func (r *Roll) InForce(names map[string]bool) (changed bool) {
	before := r.groups.Swap(&names)
	if before == nil || len(*before) != len(names) {
		return true
	}
	for name := range names {
		if !(*before)[name] {
			return true
		}
	}
	return false
}

// Device of a name.
func (r *Roll) Device(name string) (admit.Member, bool) {
	d := r.devices.Load()
	if d == nil {
		return admit.Member{}, false
	}
	a, known := (*d).Device(name)
	if !known {
		return admit.Member{}, false
	}
	return admit.Member{Group: r.group(a.Group), Barred: a.Barred, Addresses: a.Addresses}, true
}

func (r *Roll) group(name string) string {
	if name == config.DefaultGroup || name == "" {
		return ""
	}
	if groups := r.groups.Load(); groups == nil || !(*groups)[name] {
		return config.QuarantineGroup
	}
	return name
}

// Revoked says whether a certificate is.
func (r *Roll) Revoked(issuer [sha256.Size]byte, serial []byte) (reason int, revoked bool) {
	d := r.devices.Load()
	if d == nil {
		return 0, false
	}
	return (*d).Revoked(issuer, serial)
}

// Concerned by a delta of the section of devices.
func Concerned(d *gcm.Delta) (c session.Concerned) {
	take := func(key []byte) {
		if device, ok := gcm.DeviceOf(key); ok {
			c.Devices = append(c.Devices, device)
		} else if _, serial, ok := gcm.RevokedOf(key); ok {
			c.Serials = append(c.Serials, serial)
		}
	}
	for _, r := range d.Put {
		take(r.Key)
	}
	for _, key := range d.Delete {
		take(key)
	}
	return c
}
