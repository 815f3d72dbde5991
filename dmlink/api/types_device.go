package api

import (
	"fmt"
	"strings"
	"time"
)

// Device that is managed.
type Device struct {
	Name     string    `json:"name"`
	User     string    `json:"user,omitempty"`
	IMEI     string    `json:"imei,omitempty"`
	IMSI     string    `json:"imsi,omitempty"`
	Phone    string    `json:"phone,omitempty"`
	Unit     string    `json:"unit,omitempty" doc:"Place in the tree that policies are linked to; empty: its top."`
	Groups   []string  `json:"groups,omitempty" doc:"Not in lists."`
	Open     bool      `json:"open" doc:"False if it was closed: it may not come any more."`
	Enrolled time.Time `json:"enrolled"`
	Closed   time.Time `json:"closed,omitzero" required:"false"`
	Seen     time.Time `json:"seen,omitzero" required:"false" doc:"Last session."`
}

// DeviceDetail is all of a device but its inventory.
type DeviceDetail struct {
	Device
	Info map[string]string `json:"info,omitempty" doc:"DevInfo, by URI. Not for everybody."`
	Wipe *Wipe             `json:"wipe,omitempty"`
}

// ListDevices by what is known of them; empty fields mean all.
type ListDevices struct {
	Paging
	User  string `query:"user" maxLength:"300"`
	IMEI  string `query:"imei" maxLength:"64" doc:"With this IMEI."`
	IMSI  string `query:"imsi" maxLength:"64" doc:"With this IMSI."`
	Phone string `query:"phone" maxLength:"64" doc:"With this phone number."`
	Group string `query:"group" maxLength:"300" doc:"In this group."`
	Open  bool   `query:"open" doc:"Leave out those that were closed."`
}

// OneDevice by its name.
type OneDevice struct {
	Device string `path:"device" maxLength:"300"`
}

// SetGroups of a device.
type SetGroups struct {
	OneDevice
	Body struct {
		Groups []string `json:"groups" maxItems:"64" doc:"All groups that it shall be in."`
	}
}

// Change implements Changer.
func (s *SetGroups) Change() (object, detail string) {
	return "device " + s.Device, "groups " + strings.Join(s.Body.Groups, ", ")
}

// SetUnit of a device.
type SetUnit struct {
	OneDevice
	Body struct {
		Unit string `json:"unit" maxLength:"300" doc:"Such as corp/sales; empty: the top."`
	}
}

// Change implements Changer.
func (s *SetUnit) Change() (object, detail string) {
	return "device " + s.Device, "unit " + s.Body.Unit
}

// Command is a task for one device.
type Command struct {
	ID      int64     `json:"id"`
	Task    string    `json:"task"`
	Device  string    `json:"device"`
	State   string    `json:"state" doc:"waiting, answered, accepted, confirmed, unknown, undeliverable, expired, cancelled"`
	Done    bool      `json:"done" doc:"The device has done it, as far as anybody knows."`
	Attempt int       `json:"attempt" doc:"How often it was sent."`
	Sent    time.Time `json:"sent,omitzero" required:"false"`
	Code    int       `json:"code,omitempty" doc:"Status of OMA DM."`
	Ended   time.Time `json:"ended,omitzero" required:"false"`
}

// ListCommands of a device.
type ListCommands struct {
	OneDevice
	Paging
}

// Alert that a device told by itself.
type Alert struct {
	At         time.Time `json:"at"`
	Code       int       `json:"code"`
	Correlator string    `json:"correlator,omitempty" doc:"ID of a task."`
	Items      []string  `json:"items,omitempty"`
}

// ListMessages of a device.
type ListMessages struct {
	OneDevice
	Paging
	Octets bool `query:"octets" doc:"With the messages themselves."`
}

// Look says for the audit log whose messages were read.
func (l *ListMessages) Look() string { return "device " + l.Device }

// Message of a session.
type Message struct {
	ID          int64     `json:"id"`
	At          time.Time `json:"at"`
	Sent        bool      `json:"sent" doc:"By the server."`
	Proven      bool      `json:"proven" doc:"The device had authenticated."`
	ContentType string    `json:"content_type"`
	Size        int       `json:"size"`
	Octets      []byte    `json:"octets,omitempty" doc:"As it travelled."`
}

// Schedule of devices. Durations are seconds.
type Schedule struct {
	First  int64 `json:"first" doc:"First visit, so long after enrollment."`
	Retry  int64 `json:"retry" doc:"Until a visit worked: at so long after enrollment, and again after each try."`
	Tries  int   `json:"tries"`
	Every  int64 `json:"every" doc:"Between visits, from then on."`
	Jitter int64 `json:"jitter" doc:"Each visit is earlier or later by up to so much."`
}

// SetSchedule of a group.
type SetSchedule struct {
	Group string `query:"group" maxLength:"300" doc:"Empty: all devices."`
	Rank  int    `query:"rank" minimum:"0" maximum:"1000000" doc:"Of a device's groups the one with the lowest rank decides."`
	Body  Schedule
}

// Change implements Changer.
func (s *SetSchedule) Change() (object, detail string) {
	return groupName(s.Group), fmt.Sprintf("rank %d, %+v", s.Rank, s.Body)
}

// DeleteSchedule of a group.
type DeleteSchedule struct {
	Group string `query:"group" maxLength:"300" doc:"Empty: all devices."`
}

// Change implements Changer.
func (s *DeleteSchedule) Change() (object, detail string) { return groupName(s.Group), "" }

func groupName(group string) string {
	if group == "" {
		return "all devices"
	}
	return "group " + group
}
