package session

import (
	"net/netip"
	"slices"
	"time"
	"unique"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// Concerned are the sessions that a change of the policy's admit.Roll is about.
type Concerned struct {
	// Devices by name.
	Devices []string
	// Serials of certificates, big-endian without leading zeros.
	Serials []string
}

// Recheck has the policy look again at sessions whose device or certificates
// its Roll has changed: who is no longer admitted is closed, who is in another
// group is moved to it, and who has been assigned another address is closed to
// come back to it. It is called after the change. It costs those sessions and
// not the others.
func (s *Server) Recheck(c Concerned) {
	s.rolled.Add(1)
	s.broadcast(recheckSome(c))
}

// RecheckAll is Recheck for a change that may be about anybody.
func (s *Server) RecheckAll() {
	s.rolled.Add(1)
	s.broadcast(recheckAll{})
}

// admittedIndex finds the sessions of a shard that were admitted by what a roll
// speaks of.
type admittedIndex struct {
	devices map[string]*session // linked by sameDevice
	serials map[string]*session // of their own certificates, linked by sameSerial
	// issuers counts sessions by the serial numbers of the other certificates of
	// their paths, which many have in common.
	issuers map[string]int
}

func newAdmittedIndex() admittedIndex {
	return admittedIndex{devices: map[string]*session{}, serials: map[string]*session{}, issuers: map[string]int{}}
}

// indexed are the keys under which a session is in the index.
type indexed struct {
	device, serial         string
	in                     bool // the index
	path                   bool // there is one: serial, and the rest of it in common
	common                 unique.Handle[commonStanding]
	sameDevice, sameSerial *session
}

func (x *admittedIndex) add(s *session) {
	x.remove(s)
	s.indexed = indexed{in: true, device: s.device}
	in := &s.indexed
	in.sameDevice, x.devices[in.device] = x.devices[in.device], s
	if s.standing.known() {
		c := s.standing.common.Value()
		if in.common, in.path = s.standing.common, c.path; in.path {
			in.serial = s.standing.serial
			in.sameSerial, x.serials[in.serial] = x.serials[in.serial], s
		}
		for _, serial := range c.serials() {
			x.issuers[serial]++
		}
	}
}

func (x *admittedIndex) remove(s *session) {
	if !s.indexed.in {
		return
	}
	in := s.indexed
	s.indexed = indexed{}
	unlink(x.devices, in.device, s, in.sameDevice, func(other *session) **session { return &other.indexed.sameDevice })
	if !in.path {
		return
	}
	unlink(x.serials, in.serial, s, in.sameSerial, func(other *session) **session { return &other.indexed.sameSerial })
	c := in.common.Value()
	for _, serial := range c.serials() {
		if x.issuers[serial]--; x.issuers[serial] == 0 {
			delete(x.issuers, serial)
		}
	}
}

// unlink takes s, which next follows, out of the list under a key.
func unlink(heads map[string]*session, key string, s, next *session, link func(*session) **session) {
	switch at := heads[key]; {
	case at != s:
		for *link(at) != s {
			at = *link(at)
		}
		*link(at) = next
	case next == nil:
		delete(heads, key)
	default:
		heads[key] = next
	}
}

// recheckSome is recheckAll for some sessions.
type recheckSome Concerned

func (c recheckSome) deliver(sh *shard, now time.Time) {
	var list []*session
	for _, device := range c.Devices {
		for s := sh.index.devices[device]; s != nil; s = s.indexed.sameDevice {
			list = append(list, s)
		}
	}
	for _, serial := range c.Serials {
		if sh.index.issuers[serial] > 0 {
			recheckAll{}.deliver(sh, now)
			return
		}
		for s := sh.index.serials[serial]; s != nil; s = s.indexed.sameSerial {
			list = append(list, s)
		}
	}
	for _, s := range list {
		if s.closing == "" && !s.over {
			sh.renewNow(now, s)
		}
	}
}

// renewNow asks the policy about an admitted session here and now, by what its
// admission rested on: look-ups, no signatures. That is stricter than a decision
// by certificates, so whoever fails gets that one.
func (sh *shard) renewNow(now time.Time, s *session) {
	policy := sh.server.settings.Load().Admit
	admission, err := policy.Renew(now, s.standing.full())
	if err != nil {
		sh.decideAgain(s)
		return
	}
	sh.admittedAgain(now, s, admission)
}

// admittedAgain: what has changed for a session that goes on.
func (sh *shard) admittedAgain(now time.Time, s *session, a admit.Admission) {
	s.until = a.Until
	s.standing.set(a.Standing)
	sh.index.add(s)
	s.assigned = a.Addresses
	if s.addresses != nil && !s.fits() {
		sh.close(now, s, ike.CloseReaddressed)
		return
	}
	if a.Group != s.group {
		sh.regroup(s, a.Group)
	}
	sh.lookSoon(now, s)
}

// fits says whether a session has no other address than what is assigned.
func (s *session) fits() bool {
	return !slices.ContainsFunc(s.addresses, func(has netip.Addr) bool {
		want := assignedOf(s.assigned, familyOf(has))
		return want.IsValid() && want != has
	})
}

func familyOf(a netip.Addr) lease.Family {
	if a.Is4() {
		return lease.IPv4
	}
	return lease.IPv6
}

// assignedOf is the first address of a family, the zero Addr for none.
func assignedOf(addresses []netip.Addr, f lease.Family) netip.Addr {
	for _, a := range addresses {
		if familyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// evict ends a session whose address was assigned to another device, and its
// lease as soon as nothing is forwarded any more, whether its peer answers or
// not.
type evict struct {
	id lease.SessionID
}

func (e evict) deliver(sh *shard, now time.Time) {
	s := sh.sessions[e.id]
	if s == nil {
		return // its lease ends
	}
	if s.displaced != 0 {
		sh.server.shards[s.displaced>>56].mail.put(evict{s.displaced})
	}
	sh.close(now, s, ike.CloseReaddressed)
	if s.holds {
		sh.server.end(s.lease())
	}
	for _, held := range s.inherited {
		sh.server.end(held)
	}
}
