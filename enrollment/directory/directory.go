package directory

import (
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// By is who does something: the name of an administrator or of a part of the
// server, and the address from which it came, if any.
type By struct {
	Name   string
	Source netip.Addr
}

// State of a request.
type State string

// States. A request is open until its Expires, whatever its row says.
const (
	Open      State = "open"
	Used      State = "used"
	Expired   State = "expired"
	Cancelled State = "cancelled"
	Exhausted State = "exhausted"
)

// Request of an administrator that a device may enroll.
type Request struct {
	ID     otp.ID
	Device string
	User   string
	Email  string
	Groups []string
	State  State
	// Secret is sealed: while open the request's key, after use what is bound
	// to the key that was used (otp.Bind), nil when its time is over.
	Secret []byte
	// Guesses that were wrong.
	Guesses   int64
	Created   time.Time
	CreatedBy string
	Expires   time.Time
	Closed    time.Time
	// KeyHash and Serial of the certificate that used it.
	KeyHash []byte
	Serial  string
}

// Device that enrolled.
type Device struct {
	Name    string
	User    string
	Groups  []string
	Open    bool
	Created time.Time
	Closed  time.Time
}

// User of devices.
type User struct {
	Name    string
	Email   string
	Created time.Time
}

// Certificate that was issued. Request, Renews, KeyHash and DER are empty where
// they don't apply; those of certificates that another keeper recorded are.
type Certificate struct {
	Serial    string
	Authority string
	Profile   ca.Profile
	Name      string
	Device    string
	Request   string
	// Renews is the serial number of the certificate that this one renews.
	Renews    string
	KeyHash   []byte
	DER       []byte
	SHA256    []byte
	Issued    time.Time
	NotBefore time.Time
	NotAfter  time.Time
	Revoked   time.Time
	Reason    ca.Reason
}

// Kind of an event.
type Kind string

// Kinds of events.
const (
	Enrolled Kind = "enrolled" // a device has its first certificate of a request
	Renewed  Kind = "renewed"  // a device has a further certificate
	Revoked  Kind = "revoked"  // a certificate isn't good any more
	Closed   Kind = "closed"   // a device may not come any more
)

// Event that others must hear of. Numbers begin at 1, rise by one, and are in
// the order of the commits of what concerns one device.
type Event struct {
	Number int64
	At     time.Time
	Kind   Kind
	Device string
	User   string
	Groups []string
	Serial string
	// Reason of a revocation.
	Reason ca.Reason
	// Until is the end of the certificate.
	Until time.Time
}

// Action of the audit record.
type Action string

// Actions.
const (
	ActRequest   Action = "request"
	ActCancel    Action = "cancel"
	ActExpire    Action = "expire"
	ActExhaust   Action = "exhaust"
	ActRefuse    Action = "refuse"
	ActEnroll    Action = "enroll"
	ActRenew     Action = "renew"
	ActCertify   Action = "certify"
	ActRevoke    Action = "revoke"
	ActSupersede Action = "supersede"
	ActClose     Action = "close"
	ActList      Action = "list"
	ActTakeOver  Action = "take-over"
)

// Entry of the audit record.
type Entry struct {
	ID      int64
	At      time.Time
	By      By
	Action  Action
	Request string
	Device  string
	Serial  string
	Detail  string
}
