package gcm

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of a gateway that say nothing about the document's form.
var (
	// ErrRefused: the content is well-formed and can't be put into force here;
	// the reasons say why. What was there stays.
	ErrRefused = errors.New("the gateway can't put this into force")
	// ErrBusy: the gateway has as much to do as it takes at a time.
	ErrBusy = errors.New("the gateway is busy")
	// ErrStorage: the gateway couldn't write it down, so it wasn't taken.
	ErrStorage = errors.New("the gateway couldn't keep the document")
)

// maxReasons of a refusal, so that an answer stays small.
const maxReasons = 100

// Refusal is the JSON body of an answer on PathSections whose status isn't 200.
type Refusal struct {
	Code    string   `json:"code"`
	Reasons []string `json:"reasons"`
	// State is what the gateway has, and keeps.
	State SectionState `json:"state"`
}

// codes of errors; the texts are part of the protocol.
var codes = []struct {
	code string
	err  error
}{
	{"malformed", ErrMalformed}, {"too_large", ErrTooLarge}, {"stale", ErrStale}, {"epoch", ErrEpoch}, {"base", ErrBase},
	{"hash", ErrHash}, {"record", ErrRecord}, {"refused", ErrRefused}, {"busy", ErrBusy}, {"storage", ErrStorage},
}

// Refuse puts an error of this package into a refusal, and the reasons behind
// it, if there are any. An error of another kind is ErrMalformed.
func Refuse(err error, reasons []error, state SectionState) Refusal {
	r := Refusal{Code: "malformed", State: state}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			r.Code = c.code
			break
		}
	}
	if len(reasons) == 0 {
		reasons = []error{err}
	}
	for n, reason := range reasons {
		if n == maxReasons {
			r.Reasons = append(r.Reasons, fmt.Sprintf("and %d more", len(reasons)-n))
			break
		}
		r.Reasons = append(r.Reasons, clip(reason.Error()))
	}
	return r
}

// Err is the error that a refusal tells of, with its reasons; for a code that
// nobody knows it is ErrRefused.
func (r Refusal) Err() error {
	err := ErrRefused
	for _, c := range codes {
		if c.code == r.Code {
			err = c.err
		}
	}
	return fmt.Errorf("%w: %s", err, clip(strings.Join(r.Reasons, "; ")))
}

// clip bounds a text that is shown and logged.
func clip(s string) string {
	const most = 1 << 10
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}
