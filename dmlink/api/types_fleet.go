package api

import (
	"fmt"
	"time"
)

// Gateway that is managed.
type Gateway struct {
	Name        string    `json:"name"`
	Address     string    `json:"address" doc:"Of its management port."`
	Host        string    `json:"host"`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of its public key."`
	Added       time.Time `json:"added"`
	Certificate time.Time `json:"certificate_ends" doc:"It is renewed before."`
	Connected   bool      `json:"connected"`
	Since       time.Time `json:"since,omitzero" required:"false"`
	Trouble     string    `json:"trouble,omitempty" doc:"Why it isn't connected."`
	Software    string    `json:"software,omitempty"`
	Build       string    `json:"build,omitempty"`
	Health      string    `json:"health,omitempty"`
	Problems    []string  `json:"problems,omitempty"`
	Sessions    int       `json:"sessions" doc:"As it told within the last two seconds or so."`
	MaxSessions int       `json:"max_sessions,omitempty"`
	Events      uint64    `json:"events" doc:"That it told since this server began."`
	Disbelieved uint64    `json:"disbelieved" doc:"Of devices that nobody knows."`
	Draining    bool      `json:"draining"`
	DrainTo     string    `json:"drain_to,omitempty"`
	Current     bool      `json:"current" doc:"It has in force what was committed last."`
	Sections    []Section `json:"sections,omitempty" doc:"Not in lists."`
	Drift       []string  `json:"drift,omitempty" doc:"What isn't as it was committed, and why."`
}

// Section of a gateway's configuration.
type Section struct {
	Section string `json:"section"`
	Has     string `json:"has" doc:"Epoch and number of its version."`
	Wanted  string `json:"wanted"`
}

// OneGateway by its name.
type OneGateway struct {
	Gateway string `path:"gateway" maxLength:"64"`
}

// ChangeGateway of a name.
type ChangeGateway struct{ OneGateway }

// Change implements Changer.
func (g *ChangeGateway) Change() (object, detail string) { return "gateway " + g.Gateway, "" }

// AddGateway to those that are managed.
type AddGateway struct {
	Body NewGateway
}

// NewGateway says where a gateway is, and how it is known.
type NewGateway struct {
	Name        string `json:"name" maxLength:"32" doc:"gateway.management.name there."`
	Address     string `json:"address" maxLength:"64" doc:"Of its management port, with the port."`
	Host        string `json:"host" maxLength:"253" doc:"gateway.management.host there: the name in its certificate."`
	Fingerprint string `json:"fingerprint" maxLength:"128" doc:"SHA-256 of its public key, hexadecimal, as it shows it."`
}

// Change implements Changer.
func (g *AddGateway) Change() (object, detail string) {
	return "gateway " + g.Body.Name, fmt.Sprintf("%s at %s, fingerprint %s", g.Body.Host, g.Body.Address, g.Body.Fingerprint)
}

// DrainGateway sends its sessions elsewhere.
type DrainGateway struct {
	OneGateway
	Body struct {
		To     string `json:"to,omitempty" maxLength:"253" doc:"Name or address of another gateway; empty: sessions only end."`
		Within int    `json:"within,omitempty" minimum:"0" maximum:"86400" doc:"Seconds that it may take."`
	}
}

// Change implements Changer.
func (g *DrainGateway) Change() (object, detail string) {
	return "gateway " + g.Gateway, fmt.Sprintf("drain to %q within %d s", g.Body.To, g.Body.Within)
}

// Drained says whether the gateway knows it.
type Drained struct {
	Now bool `json:"now" doc:"False: it isn't connected, and is told when it is."`
}

// NewEpoch is for a database that was restored.
type NewEpoch struct{}

// Change implements Changer.
func (*NewEpoch) Change() (object, detail string) { return "gateways", "new epoch" }

// Epoch of all versions.
type Epoch struct {
	Epoch uint64 `json:"epoch"`
}

// Session of a device at a gateway.
type Session struct {
	Device    string    `json:"device"`
	Gateway   string    `json:"gateway"`
	Session   string    `json:"session"`
	Since     time.Time `json:"since"`
	Peer      string    `json:"peer,omitempty" doc:"Outer address and port."`
	Addresses []string  `json:"addresses,omitempty" doc:"Virtual ones."`
}

// ListSessions over all gateways, or of one.
type ListSessions struct {
	Paging
	Gateway string `query:"gateway" maxLength:"64"`
}

// Event that a gateway told.
type Event struct {
	ID      int64             `json:"id"`
	At      time.Time         `json:"at"`
	Gateway string            `json:"gateway"`
	Kind    string            `json:"kind"`
	Device  string            `json:"device,omitempty"`
	Session string            `json:"session,omitempty"`
	Peer    string            `json:"peer,omitempty"`
	Reason  string            `json:"reason,omitempty"`
	Count   uint64            `json:"count,omitempty"`
	Sums    map[string]uint64 `json:"sums,omitempty"`
}

// ListEvents of gateways, the newest first.
type ListEvents struct {
	Paging
	Gateway string `query:"gateway" maxLength:"64"`
	Device  string `query:"device" maxLength:"64"`
}

// EndSessions of a device.
type EndSessions struct{ OneDevice }

// Change implements Changer.
func (s *EndSessions) Change() (object, detail string) { return "device " + s.Device, "end sessions" }

// Ended says how many sessions.
type Ended struct {
	Sessions int `json:"sessions"`
}

// Access of a device to gateways.
type Access struct {
	Device    string    `json:"device"`
	Group     string    `json:"group" doc:"While it is held it is in the group quarantine instead."`
	Held      bool      `json:"held" doc:"In quarantine, because it doesn't comply."`
	Barred    bool      `json:"barred" doc:"Known, and kept out."`
	Enrolled  time.Time `json:"enrolled"`
	Addresses []string  `json:"addresses" doc:"The same at each gateway."`
}

// SetAccess of a device; what is left out stays.
type SetAccess struct {
	OneDevice
	Body struct {
		Group  *string `json:"group,omitempty" maxLength:"64"`
		Held   *bool   `json:"held,omitempty"`
		Barred *bool   `json:"barred,omitempty"`
	}
}

// Change implements Changer.
func (s *SetAccess) Change() (object, detail string) {
	if s.Body.Group != nil {
		detail += fmt.Sprintf("group %q ", *s.Body.Group)
	}
	if s.Body.Held != nil {
		detail += fmt.Sprintf("held %t ", *s.Body.Held)
	}
	if s.Body.Barred != nil {
		detail += fmt.Sprintf("barred %t", *s.Body.Barred)
	}
	return "device " + s.Device, detail
}

// GatewayContent is what administrators decide for all gateways, as YAML: groups
// with their access lists, pools, excluded addresses, settings.
type GatewayContent struct {
	YAML string `json:"yaml" maxLength:"16777216"`
}

// SetContent replaces it.
type SetContent struct {
	Body GatewayContent
}

// Change implements Changer.
func (s *SetContent) Change() (object, detail string) {
	return "gateways", fmt.Sprintf("configuration of %d octets", len(s.Body.YAML))
}
