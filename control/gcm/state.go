package gcm

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// SectionState is what a gateway has of a section.
type SectionState struct {
	Version Version `json:"version"`
	Hash    Hash    `json:"hash"`
	Records int     `json:"records"`
	// Applied is false while the content is stored but could not be put into
	// force, for Reasons.
	Applied bool     `json:"applied"`
	Reasons []string `json:"reasons,omitempty"`
}

// Health of a gateway.
type Health string

// Kinds of health. Their text is part of the protocol.
const (
	// Ready: it takes devices.
	Ready Health = "ready"
	// Draining: it sends devices elsewhere, see Drain.
	Draining Health = "draining"
	// Stopping: it ends.
	Stopping Health = "stopping"
)

// State of a gateway, the answer to GET PathState.
type State struct {
	Gateway string `json:"gateway"`
	// Software is its version, Build the commit that it was built from and with
	// what.
	Software string    `json:"software"`
	Build    string    `json:"build,omitempty"`
	Started  time.Time `json:"started"`
	Health   Health    `json:"health"`
	// Problems that somebody should look at, for people.
	Problems []string                 `json:"problems,omitempty"`
	Sections map[Section]SectionState `json:"sections"`
	// Sessions that are up, how many may be, and the cursor of the newest event.
	Sessions    int    `json:"sessions"`
	MaxSessions int    `json:"max_sessions,omitempty"`
	Cursor      uint64 `json:"cursor"`
	// Drain that is in force; On is false without one. It doesn't outlive the
	// gateway's process, so a manager sends it again when it is missing.
	Drain Drain `json:"drain,omitzero"`
	// CertificateEnds is the end of the certificate on the management port, and
	// zero where the gateway has only the one that it made itself.
	CertificateEnds time.Time `json:"certificate_ends,omitzero"`
	// RevocationListEnds is the earliest nextUpdate of what the gateway knows
	// about revocation beside the section of devices; zero for nothing.
	RevocationListEnds time.Time `json:"revocation_list_ends,omitzero"`
}

// Drain sends the sessions of a gateway elsewhere, those to come too. The
// gateway goes on running, and whoever can't be redirected is disconnected.
type Drain struct {
	On bool `json:"on"`
	// To is the domain name or address of another gateway; empty only ends
	// sessions, and lets nobody in.
	To string `json:"to,omitempty"`
	// Within is how long it may take, in seconds, from 0 to MaxDrain.
	Within int `json:"within,omitempty"`
}

// ReadDrain of an order. Error: ErrMalformed.
func ReadDrain(r io.Reader) (Drain, error) {
	j := json.NewDecoder(r)
	j.DisallowUnknownFields()
	var d Drain
	if err := j.Decode(&d); err != nil {
		return Drain{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if j.More() || d.Within < 0 || d.Within > MaxDrain || len(d.To) > maxText {
		return Drain{}, fmt.Errorf("%w: not a drain", ErrMalformed)
	}
	return d, nil
}

// MaxDrain is the longest Drain.Within, a day in seconds.
const MaxDrain = 24 * 60 * 60

// Reloaded is the answer to POST PathReload, with status 200, or with 422 and
// Problems: then nothing has changed.
type Reloaded struct {
	Problems    []string `json:"problems,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`
	NeedRestart []string `json:"need_restart,omitempty"`
}
