package api

import (
	"fmt"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
)

// Policy is a version of all policies.
type Policy struct {
	PolicyVersion
	Document policy.Document `json:"document"`
}

// PolicyVersion without its document.
type PolicyVersion struct {
	Number  int64     `json:"number" doc:"0: nothing was applied yet."`
	At      time.Time `json:"at,omitzero" required:"false"`
	By      string    `json:"by,omitempty"`
	Comment string    `json:"comment,omitempty"`
}

// Result implements resulter.
func (v PolicyVersion) Result() string { return fmt.Sprintf("version %d", v.Number) }

// OnePolicy by its version.
type OnePolicy struct {
	Version int64 `query:"version" minimum:"0" doc:"0: the newest."`
}

// Look says for the audit log what was read.
func (o *OnePolicy) Look() string {
	if o.Version == 0 {
		return "policies"
	}
	return fmt.Sprintf("policies, version %d", o.Version)
}

// ListPolicies by version.
type ListPolicies struct {
	Paging
}

// PolicyBehind is how far the devices' commands are behind the policies and what
// happened to the devices.
type PolicyBehind struct {
	Version int64     `json:"version" doc:"The newest."`
	Devices int       `json:"devices" doc:"Whose commands are still to be computed; counted up to 1,000,000. Of the others each has the commands that wait for it."`
	Since   time.Time `json:"since,omitzero" required:"false" doc:"When the first of them was touched."`
}

// PlanPolicy comes in.
type PlanPolicy struct {
	Body struct {
		Document policy.Document `json:"document"`
	}
}

// PolicyPlanned is a plan, and what it is to be applied on.
type PolicyPlanned struct {
	Base int64 `json:"base" doc:"Version that it is compared with; give it to apply."`
	policy.Plan
}

// ApplyPolicy comes in.
type ApplyPolicy struct {
	Body struct {
		Base     int64           `json:"base" minimum:"0" doc:"The version that it was made of; somebody else's newer one isn't overwritten."`
		Comment  string          `json:"comment,omitempty" maxLength:"1000"`
		Document policy.Document `json:"document"`
	}
}

// Change implements Changer.
func (a *ApplyPolicy) Change() (object, detail string) {
	d := a.Body.Document
	return "policies", fmt.Sprintf("on version %d: %d sets, %d units, %d links; %s", a.Body.Base, len(d.Sets), len(d.Units), len(d.Links), a.Body.Comment)
}

// Explanation of what a device has by policies.
type Explanation struct {
	policy.Explanation
	Hidden bool `json:"hidden,omitempty" doc:"Values are left out, since you may not see policies."`
}

// Inventory of a device.
type Inventory struct {
	Device   string               `json:"device"`
	Version  int64                `json:"version" doc:"Counts the updates that changed something."`
	Updated  time.Time            `json:"updated,omitzero" required:"false"`
	Nodes    []InventoryNode      `json:"nodes"`
	Software []inventory.Software `json:"software"`
}

// InventoryNode is a leaf.
type InventoryNode struct {
	NodeValue
	Since  time.Time `json:"since"`
	Size   int       `json:"size,omitempty" doc:"In octets, where the value is longer than what is kept of it."`
	Digest string    `json:"digest,omitempty" doc:"SHA-256 of such a value."`
}

// ListChanges of a device.
type ListChanges struct {
	OneDevice
	Paging
}

// InventoryChange of a node.
type InventoryChange struct {
	Number int64      `json:"number"`
	At     time.Time  `json:"at"`
	URI    string     `json:"uri"`
	Before *NodeValue `json:"before,omitempty"`
	After  *NodeValue `json:"after,omitempty"`
}
