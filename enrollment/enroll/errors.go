package enroll

import (
	"errors"
	"fmt"
	"time"
)

// Reason of a refusal: for logs, counters and the audit record. A skin must not
// let its peer tell those apart for which Secret is true.
type Reason string

// Reasons.
const (
	Unknown       Reason = "unknown"        // no such request, or no such user
	WrongPassword Reason = "wrong_password" // or a code under another key
	Expired       Reason = "expired"
	Used          Reason = "used" // by another key
	Cancelled     Reason = "cancelled"
	// Exhausted: so many wrong guesses that the request was closed.
	Exhausted Reason = "exhausted"
	// Limited: too many tries from this source or for this request; later.
	Limited Reason = "limited"
	// KeyRefused: type or size of the key, or a key that another device has.
	KeyRefused Reason = "key_refused"
	// NotRenewable: the certificate is revoked, expired, not ours or too young,
	// or its device is barred.
	NotRenewable Reason = "not_renewable"
)

// Reasons in the order above.
var Reasons = []Reason{Unknown, WrongPassword, Expired, Used, Cancelled, Exhausted, Limited, KeyRefused, NotRenewable}

// Secret says whether the difference to other secret reasons would tell a
// stranger something: which requests and users exist, and in which state.
func (r Reason) Secret() bool {
	switch r {
	case Unknown, WrongPassword, Expired, Used, Cancelled, Exhausted:
		return true
	case Limited, KeyRefused, NotRenewable:
	}
	return false
}

// ErrRefused is matched by every refusal.
var ErrRefused = errors.New("enrollment refused")

// Refusal is the error of an application or renewal that was decided against.
// All other errors of this package mean that it could not be decided, and that
// trying again may help.
type Refusal struct {
	Reason Reason
	// Detail for who proved to know the password, empty otherwise; for example
	// which keys are taken.
	Detail string
	// RetryAfter is set with Limited.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string {
	if r.Detail != "" {
		return fmt.Sprintf("%v: %s: %s", ErrRefused, r.Reason, r.Detail)
	}
	return fmt.Sprintf("%v: %s", ErrRefused, r.Reason)
}

// Is matches ErrRefused.
func (r *Refusal) Is(target error) bool { return target == ErrRefused }
