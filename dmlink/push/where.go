package push

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// Whereabouts says where devices are, as gateways told it. A gateway speaks for
// the sessions that it has itself: what it says ends no session elsewhere. Its
// methods are safe for concurrent use.
type Whereabouts struct {
	mu      sync.Mutex
	devices map[string][]Place
}

// Place of a device's session.
type Place struct {
	Gateway, Session string
	Since            time.Time
	Peer             netip.AddrPort
	Addresses        []netip.Addr
}

// maxPlaces of one device. More gateways than that don't have it at once; the
// oldest is forgotten.
const maxPlaces = 16

// NewWhereabouts where nobody is.
func NewWhereabouts() *Whereabouts { return &Whereabouts{devices: map[string][]Place{}} }

// Tell of an event of a gateway that came at now. Nothing happened later than
// that, whatever a gateway's clock says.
func (w *Whereabouts) Tell(now time.Time, gateway string, e gcm.Event) {
	if e.Kind == gcm.Dropped && e.Reason == gcm.ReasonRestart {
		w.Forget(gateway)
	}
	if e.Device == "" {
		return
	}
	if e.At.After(now) {
		e.At = now
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	places := w.devices[e.Device]
	n := slices.IndexFunc(places, func(p Place) bool { return p.Gateway == gateway })
	switch e.Kind {
	case gcm.SessionStarted:
		if n >= 0 {
			places = slices.Delete(places, n, n+1)
		}
		if len(places) == maxPlaces {
			places = slices.Delete(places, 0, 1)
		}
		places = append(places, Place{gateway, e.Session, e.At, e.Peer, e.Addresses})
		slices.SortStableFunc(places, func(a, b Place) int { return cmp.Compare(a.Since.UnixNano(), b.Since.UnixNano()) })
	case gcm.SessionMoved:
		if n >= 0 && places[n].Session == e.Session {
			places[n].Peer = e.Peer
		}
	case gcm.SessionEnded:
		// The end of an older session may come after the next one's start.
		if n >= 0 && places[n].Session == e.Session {
			places = slices.Delete(places, n, n+1)
		}
	case gcm.LeaseAssigned, gcm.DeviceRefused, gcm.AlertResult, gcm.Counters, gcm.Dropped:
	}
	if len(places) == 0 {
		delete(w.devices, e.Device)
		return
	}
	w.devices[e.Device] = places
}

// Of a device: where it has a session, the newest last. There is more than one
// place while it moves: the older ones are to be ended.
func (w *Whereabouts) Of(device string) []Place {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.devices[device])
}

// Forget a gateway that begins anew: its sessions went with it.
func (w *Whereabouts) Forget(gateway string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for device, places := range w.devices {
		places = slices.DeleteFunc(places, func(p Place) bool { return p.Gateway == gateway })
		if len(places) == 0 {
			delete(w.devices, device)
		} else {
			w.devices[device] = places
		}
	}
}
