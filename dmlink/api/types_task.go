package api

import (
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/task"
)

// TaskType is what may be asked of devices.
type TaskType struct {
	Name       string          `json:"name"`
	Help       string          `json:"help"`
	Parameters []TaskParameter `json:"parameters"`
	Lifetime   int64           `json:"lifetime" doc:"How long it waits for a device unless a task says otherwise, seconds."`
	Closes     bool            `json:"closes,omitempty" doc:"It ends the device's enrollment."`
	Roles      []string        `json:"roles" doc:"Who has one of these may ask for it."`
}

// TaskParameter of a type.
type TaskParameter struct {
	Name     string   `json:"name"`
	Help     string   `json:"help"`
	Required bool     `json:"required,omitempty"`
	Default  string   `json:"default,omitempty"`
	Choices  []string `json:"choices,omitempty"`
}

// Target says who is meant, by one field.
type Target struct {
	Device string `json:"device,omitempty" maxLength:"300"`
	IMEI   string `json:"imei,omitempty" maxLength:"64"`
	IMSI   string `json:"imsi,omitempty" maxLength:"64"`
	Phone  string `json:"phone,omitempty" maxLength:"64"`
	User   string `json:"user,omitempty" maxLength:"300" doc:"All devices of a user."`
	Group  string `json:"group,omitempty" maxLength:"300" doc:"All devices that are in a group now."`
}

func (t Target) String() string {
	for _, f := range []struct{ name, value string }{
		{"device", t.Device}, {"IMEI", t.IMEI}, {"IMSI", t.IMSI}, {"phone", t.Phone}, {"user", t.User}, {"group", t.Group},
	} {
		if f.value != "" {
			return f.name + " " + f.value
		}
	}
	return "nobody"
}

// NewTask asks for one.
type NewTask struct {
	ID           string            `json:"id,omitempty" maxLength:"100" doc:"Makes it safe to ask again: a task of this ID is placed once. Drawn if it is missing."`
	Target       Target            `json:"target"`
	Values       map[string]string `json:"values,omitempty" doc:"Parameters of the type, see /v1/task-types."`
	ValidSeconds int64             `json:"valid_seconds,omitempty" minimum:"0" maximum:"31622400" doc:"How long it waits for the device; 0: as the type says."`
}

// PlaceTask of the type in the path.
type PlaceTask struct{ Body NewTask }

// Change implements Changer. Values may be secret.
func (p *PlaceTask) Change() (object, detail string) {
	parts := task.Values(p.Body.Values).Reveal()
	if v := p.Body.ValidSeconds; v != 0 {
		parts = append(parts, "valid "+(time.Duration(v)*time.Second).String())
	}
	return p.Body.Target.String(), strings.Join(parts, ", ")
}

// Placed task.
type Placed struct {
	ID      string    `json:"id"`
	Devices int       `json:"devices" doc:"For how many it waits."`
	Expires time.Time `json:"expires"`
}

// Result implements resulter.
func (p Placed) Result() string { return "task " + p.ID }

// Task that was placed.
type Task struct {
	ID      string            `json:"id"`
	Type    string            `json:"type"`
	Values  map[string]string `json:"values,omitempty" doc:"Values of nodes and texts are hidden from who may not place the like."`
	Group   string            `json:"group,omitempty"`
	Created time.Time         `json:"created"`
	By      string            `json:"by"`
	Expires time.Time         `json:"expires"`
	Closes  bool              `json:"closes,omitempty"`
}

// OneTask by its ID.
type OneTask struct {
	Task string `path:"task" maxLength:"300"`
}

// TaskCommandsOf a task.
type TaskCommandsOf struct {
	OneTask
	Paging
}

// OneCommand by its ID.
type OneCommand struct {
	Command int64 `path:"command" minimum:"1"`
}

// Answer of a device to a command.
type Answer struct {
	Parts   []AnswerPart `json:"parts,omitempty" doc:"Status of each item."`
	Results []NodeValue  `json:"results,omitempty"`
}

// AnswerPart is the status of one node.
type AnswerPart struct {
	URI  string `json:"uri"`
	Code int    `json:"code"`
}

// NodeValue of a management tree.
type NodeValue struct {
	URI    string `json:"uri"`
	Format string `json:"format,omitempty"`
	Type   string `json:"type,omitempty"`
	Data   string `json:"data,omitempty" doc:"Text; base64 where it is none."`
	Base64 bool   `json:"base64,omitempty"`
}

// CancelTask comes in.
type CancelTask struct{ OneTask }

// Change implements Changer.
func (c *CancelTask) Change() (object, detail string) { return "task " + c.Task, "" }

// Cancelled task.
type Cancelled struct {
	Commands int `json:"commands" doc:"That waited. One that was sent may be done all the same."`
}

// ListWipes in a state.
type ListWipes struct {
	Paging
	State string `query:"state" enum:"ordered,closing,closed" default:"ordered"`
}

// Wipe of a device.
type Wipe struct {
	Device  string    `json:"device"`
	Task    string    `json:"task"`
	State   string    `json:"state" enum:"ordered,closing,closed"`
	Reason  string    `json:"reason,omitempty"`
	Expires time.Time `json:"expires"`
	Tries   int       `json:"tries,omitempty" doc:"To have its account closed."`
	Trouble string    `json:"trouble,omitempty"`
	Closed  time.Time `json:"closed,omitzero" required:"false"`
}
