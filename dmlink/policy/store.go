package policy

import (
	"context"
	"errors"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
)

// Store keeps documents and the states of devices. Several servers use it at
// once. dmlink/store is one; policytest has one in memory and the suite for all.
type Store interface {
	// Document returns a version; number 0 asks for the newest. A store in which
	// nothing was saved has an empty document with number 0. ErrNoVersion.
	Document(ctx context.Context, number int64) (Version, error)
	// Save adds v, whose Number follows that of the newest, or else ErrChanged,
	// and marks the devices of the scopes. One transaction.
	Save(ctx context.Context, v Version, touched []Scope) error
	// Devices returns up to n that lie in one of the scopes, by ID from behind
	// after on, with what filters read of their inventories or without.
	Devices(ctx context.Context, scopes []Scope, after string, n int, inventory bool) ([]Facts, error)
	// Device returns what Marked would if it were marked. ErrNoDevice.
	Device(ctx context.Context, id string) (Marked, error)
	// Mark devices of which something has changed. Unknown ones are left out.
	Mark(ctx context.Context, devices ...string) error
	// Marked returns up to n devices with a mark, the oldest marks first, and
	// those whose State is Due. Others may be given the same. Inventories are left
	// out if no filter of the newest version reads them.
	Marked(ctx context.Context, now time.Time, n int) ([]Marked, error)
	// Put stores states of devices. For each it makes the Commands of the state the
	// ones that wait for the device, in this order and those that wait already
	// under their IDs, and takes the mark and the outcomes away; all of that or
	// nothing: it isn't put if since it was read it was marked, a command of it was
	// claimed or answered, it was put, or it went. put is as long as all and says
	// which were. One transaction.
	Put(ctx context.Context, all []Computed) (put []bool, err error)
}

// Computed state of a device that was Marked.
type Computed struct {
	Marked
	Next State
}

// Version of the document.
type Version struct {
	Number   int64     `json:"number" yaml:"number"`
	At       time.Time `json:"at" yaml:"at"`
	By       string    `json:"by" yaml:"by"`
	Comment  string    `json:"comment,omitempty" yaml:"comment,omitempty"`
	Document Document  `json:"document" yaml:"document"`
}

// Marked is a device whose state has to be computed.
type Marked struct {
	Facts Facts
	State State
	// Mark is the store's: what Put compares.
	Mark int64
	// Outcomes of commands that were recorded since the last Put, and when the
	// last of them came.
	Outcomes []session.Outcome
	At       time.Time
	// Claimed are IDs of commands that were sent and have no outcome.
	Claimed []string
}

var (
	// ErrChanged: somebody else was faster. Read again.
	ErrChanged = errors.New("changed in the meantime")
	// ErrNoDevice: no such device.
	ErrNoDevice = errors.New("no such device")
	// ErrNoVersion: no such version of the document.
	ErrNoVersion = errors.New("no such version")
)
