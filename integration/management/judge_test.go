package management

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// evidence is what all sides say once a storm is over.
type evidence struct {
	// Devices that take part, by name.
	Devices map[string]*deviceEvidence
	// Committed sections in the database, as a manager reads them.
	Committed map[string]sectionEvidence
	// Wanted are the versions that the manager's process would have gateways in.
	Wanted   map[string]string
	Gateways map[string]*gatewayEvidence
	// Certificates of devices in the record.
	Certificates map[string]certificateEvidence
	// Listed are serial numbers on the revocation list, Pushed those that gateways
	// are told.
	Listed, Pushed []string
	// Commands by task and device.
	Commands []commandEvidence
	// Outbox is the newest event of enrollment; Followed how far each reader is.
	Outbox   int64
	Followed map[string]int64
	// Sessions that the manager believes in.
	Sessions []sessionEvidence
	// Acknowledged operations of administrators.
	Acknowledged []operation
	// Audit says what is wrong with the log of what administrators did.
	Audit string
}

// deviceEvidence is what is known of a device, and what it knows itself.
type deviceEvidence struct {
	// Serial of its certificate, empty where it was never told that it enrolled.
	Serial string
	// Had are the addresses that it ever had; Up says that it is connected.
	Had []string
	Up  bool
	// Executed are the entries of its journal: data of a node that counts how
	// often, by task.
	Executed map[string]int
	Wiped    int
	// Enrolled, Managed and Authorised: it is open in the directory, in device
	// management, and gateways are told of it; with these addresses.
	Enrolled, Managed, Authorised, Barred bool
	Addresses                             []string
	// Attempts to come back, after it was closed.
	Attempts []attempt
}

// attempt to get in, by a way such as "gw1 ticket".
type attempt struct {
	By string
	In bool
}

type sectionEvidence struct {
	Version, Hash string
	Applied       bool
}

type gatewayEvidence struct {
	Sections map[string]sectionEvidence
	Sessions []sessionEvidence
	// Leases by address.
	Leases map[string]string
}

type sessionEvidence struct {
	Device, Gateway string
	Addresses       []string
}

type certificateEvidence struct {
	Device  string
	Revoked bool
}

type commandEvidence struct {
	Task, Device, State string
	Succeeded           bool
}

// operation that was acknowledged.
type operation struct {
	// Kind: ring (once), set and query (again if need be), wipe, revoke or close.
	Kind, Task, Device string
}

func (o operation) closes() bool { return o.Kind == "wipe" || o.Kind == "revoke" || o.Kind == "close" }

// findings of a judge.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// judge says what isn't as it should be.
func judge(e *evidence) findings {
	var f findings
	e.closed(&f)
	e.open(&f)
	e.addresses(&f)
	e.commands(&f)
	e.versions(&f)
	e.revocations(&f)
	e.followed(&f)
	return f
}

// shut are the devices that an acknowledged operation closed, and its kind.
func (e *evidence) shut() map[string]string {
	shut := map[string]string{}
	for _, o := range e.Acknowledged {
		if o.closes() {
			shut[o.Device] = o.Kind
		}
	}
	return shut
}

// closed: who was wiped, revoked or closed is out everywhere, for good.
func (e *evidence) closed(f *findings) {
	shut := e.shut()
	for _, name := range slices.Sorted(maps.Keys(shut)) {
		d := e.Devices[name]
		sides := map[string]bool{"device management": d.Managed, "what gateways are told": d.Authorised}
		if shut[name] != "revoke" { // who only lost its certificate may get another one
			sides["enrollment"] = d.Enrolled
		}
		for side, is := range sides {
			if is {
				f.add("closed device %s is open in %s", name, side)
			}
		}
		if c := e.Certificates[d.Serial]; !c.Revoked {
			f.add("closed device %s has certificate %s, which isn't revoked", name, d.Serial)
		}
		if d.Up {
			f.add("closed device %s believes that it is connected", name)
		}
		if len(d.Attempts) == 0 {
			f.add("closed device %s hasn't tried to come back", name)
		}
		for _, a := range d.Attempts {
			if a.In {
				f.add("closed device %s was let in by %s", name, a.By)
			}
		}
	}
	revoked := map[string]bool{}
	for _, c := range e.Certificates {
		revoked[c.Device] = revoked[c.Device] || c.Revoked
	}
	for name, g := range e.Gateways {
		for _, s := range g.Sessions {
			if d := e.Devices[s.Device]; d == nil || !d.Authorised || d.Barred || shut[s.Device] != "" || revoked[s.Device] {
				f.add("%s at %s is connected and may not be", s.Device, name)
			}
		}
	}
}

// open: whoever was told that it is enrolled is so on all sides, unless it was
// closed.
func (e *evidence) open(f *findings) {
	shut := e.shut()
	for _, name := range slices.Sorted(maps.Keys(e.Devices)) {
		d := e.Devices[name]
		if d.Serial == "" {
			f.add("%s never enrolled", name)
			continue
		}
		if c, ok := e.Certificates[d.Serial]; !ok || c.Device != name {
			f.add("%s has certificate %s, which isn't in the record as its", name, d.Serial)
		}
		if shut[name] != "" {
			continue
		}
		for side, is := range map[string]bool{"enrollment": d.Enrolled, "device management": d.Managed, "what gateways are told": d.Authorised} {
			if !is {
				f.add("%s isn't open in %s", name, side)
			}
		}
		at := 0
		for _, g := range e.Gateways {
			for _, s := range g.Sessions {
				if s.Device == name {
					at++
				}
			}
		}
		if !d.Up || at != 1 {
			f.add("%s believes that it is connected: %t, and has %d sessions", name, d.Up, at)
		}
	}
	for serial, c := range e.Certificates {
		if d := e.Devices[c.Device]; d == nil || d.Serial != serial {
			f.add("certificate %s of %s is in the record, and nobody has it", serial, c.Device)
		}
	}
}

// addresses: a device has one, nobody else has it, and it never had another.
func (e *evidence) addresses(f *findings) {
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(e.Devices)) {
		d := e.Devices[name]
		if len(d.Had) > 1 {
			f.add("the address of %s changed: %v", name, d.Had)
		}
		for _, a := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(d.Had, d.Addresses)))) {
			if other, ok := owner[a]; ok && other != name {
				f.add("address %s is of %s and of %s", a, other, name)
			}
			owner[a] = name
		}
		if d.Authorised && len(d.Addresses) != 1 {
			f.add("%s is assigned %v", name, d.Addresses)
		}
		if d.Authorised && len(d.Had) > 0 && !slices.Equal(d.Had, d.Addresses) {
			f.add("%s had %v and is assigned %v", name, d.Had, d.Addresses)
		}
	}
	for name, g := range e.Gateways {
		for _, s := range g.Sessions {
			if d := e.Devices[s.Device]; d != nil && !slices.Equal(s.Addresses, d.Addresses) {
				f.add("%s has %v at %s and is assigned %v", s.Device, s.Addresses, name, d.Addresses)
			}
		}
		for address, device := range g.Leases {
			if d := e.Devices[device]; d != nil && d.Authorised && !slices.Contains(d.Addresses, address) {
				f.add("%s leases %s to %s, who is assigned %v", name, address, device, d.Addresses)
			}
		}
	}
}

// commands: none lost, none done twice that is to be done once, none stuck.
func (e *evidence) commands(f *findings) {
	shut := e.shut()
	type key struct{ task, device string }
	known := map[key]commandEvidence{}
	for _, c := range e.Commands {
		known[key{c.Task, c.Device}] = c
		if shut[c.Device] == "" && !slices.Contains([]string{"answered", "confirmed", "unknown"}, c.State) {
			f.add("command %s of %s is stuck: %s", c.Task, c.Device, c.State)
		}
	}
	for _, o := range e.Acknowledged {
		if o.Task == "" {
			continue
		}
		c, ok := known[key{o.Task, o.Device}]
		if !ok {
			f.add("command %s of %s was acknowledged and is lost", o.Task, o.Device)
			continue
		}
		d := e.Devices[o.Device]
		times := d.Executed[o.Task]
		if o.Kind == "wipe" {
			times = d.Wiped
		}
		switch {
		case c.State == "answered" && (!c.Succeeded || times == 0 && o.Kind != "query"):
			f.add("%s %s of %s: %s, success %t, executed %d times", o.Kind, o.Task, o.Device, c.State, c.Succeeded, times)
		case (o.Kind == "ring" || o.Kind == "wipe") && times > 1:
			f.add("%s %s was executed %d times by %s", o.Kind, o.Task, times, o.Device)
		case (o.Kind == "set" || o.Kind == "query") && c.State == "unknown":
			f.add("%s %s of %s may be done again and was given up", o.Kind, o.Task, o.Device)
		}
	}
	for name, d := range e.Devices {
		for task := range d.Executed {
			if _, ok := known[key{task, name}]; !ok {
				f.add("%s executed %s, which nobody has on record for it", name, task)
			}
		}
	}
}

// versions are equal everywhere, and so is the content.
func (e *evidence) versions(f *findings) {
	for section, want := range e.Committed {
		if e.Wanted[section] != want.Version {
			f.add("the manager has section %s of %s, committed is %s", section, e.Wanted[section], want.Version)
		}
		for name, g := range e.Gateways {
			if has := g.Sections[section]; !has.Applied || has.Version != want.Version || has.Hash != want.Hash {
				f.add("section %s at %s is %s %.12s, in force %t; committed is %s %.12s", section, name, has.Version, has.Hash, has.Applied, want.Version, want.Hash)
			}
		}
	}
	if len(e.Committed) == 0 || len(e.Gateways) == 0 {
		f.add("%d sections, %d gateways", len(e.Committed), len(e.Gateways))
	}
}

// revocations are the same in the record, on the list and at gateways.
func (e *evidence) revocations(f *findings) {
	var revoked []string
	for serial, c := range e.Certificates {
		if c.Revoked {
			revoked = append(revoked, serial)
		}
	}
	slices.Sort(revoked)
	for where, has := range map[string][]string{"on the revocation list": e.Listed, "told to gateways": e.Pushed} {
		if has := slices.Sorted(slices.Values(has)); !slices.Equal(has, revoked) {
			f.add("revoked are %s, %s are %s", strings.Join(revoked, " "), where, strings.Join(has, " "))
		}
	}
}

// followed: each reader of enrollment's events is at the last one, and the
// manager knows the sessions that there are.
func (e *evidence) followed(f *findings) {
	for reader, n := range e.Followed {
		if n != e.Outbox {
			f.add("%s is at event %d of %d", reader, n, e.Outbox)
		}
	}
	if e.Audit != "" {
		f.add("audit log: %s", e.Audit)
	}
	if len(e.Followed) < 2 {
		f.add("only %d follow enrollment", len(e.Followed))
	}
	line := func(s sessionEvidence) string { return fmt.Sprintf("%s at %s %v", s.Device, s.Gateway, s.Addresses) }
	var there, known []string
	for _, g := range e.Gateways {
		for _, s := range g.Sessions {
			there = append(there, line(s))
		}
	}
	for _, s := range e.Sessions {
		known = append(known, line(s))
	}
	slices.Sort(there)
	slices.Sort(known)
	if !slices.Equal(there, known) {
		f.add("sessions at gateways:\n\t%s\nand as the manager knows them:\n\t%s", strings.Join(there, "\n\t"), strings.Join(known, "\n\t"))
	}
}

// texts of addresses.
func texts(addresses []netip.Addr) []string {
	out := make([]string, len(addresses))
	for i, a := range addresses {
		out[i] = a.String()
	}
	return out
}
