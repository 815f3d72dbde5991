package admin

import "time"

// Request to enroll a device.
type Request struct {
	ID        string    `json:"id" doc:"Number of the request, in groups. It is no secret."`
	Device    string    `json:"device"`
	User      string    `json:"user"`
	Email     string    `json:"email,omitempty"`
	Groups    []string  `json:"groups"`
	State     string    `json:"state" enum:"open,used,expired,cancelled,exhausted"`
	Guesses   int64     `json:"guesses" doc:"Wrong passwords so far."`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
	Expires   time.Time `json:"expires"`
	Closed    time.Time `json:"closed,omitzero" required:"false"`
	Serial    string    `json:"serial,omitempty" doc:"Serial number of the certificate that used it."`
}

// NewRequest asks for a Request.
type NewRequest struct {
	User   string   `json:"user" minLength:"1" maxLength:"64" doc:"Who will have the device."`
	Device string   `json:"device" minLength:"1" maxLength:"64" doc:"Name of the device: letters, digits, '.', '_', '-', '@'."`
	Email  string   `json:"email,omitempty" maxLength:"254"`
	Groups []string `json:"groups,omitempty" maxItems:"32"`
	// ValidSeconds; 0 is the server's default.
	ValidSeconds int64 `json:"valid_seconds,omitempty" minimum:"0" doc:"How long the one-time password is good; 0: as configured."`
}

// CreatedRequest is told once: the server can't show the password again.
type CreatedRequest struct {
	Request  Request `json:"request"`
	Password string  `json:"password" doc:"One-time password in groups; shown this once."`
	Code     string  `json:"code" doc:"Request and password in one, for clients with one field."`
	URL      string  `json:"url" doc:"Page where the user begins, with the request in it."`
}

// Device that enrolled.
type Device struct {
	Name    string    `json:"name"`
	User    string    `json:"user"`
	Groups  []string  `json:"groups"`
	Open    bool      `json:"open" doc:"False if the device was closed: it may not come any more."`
	Created time.Time `json:"created"`
	Closed  time.Time `json:"closed,omitzero" required:"false"`
}

// User of devices.
type User struct {
	Name    string    `json:"name"`
	Email   string    `json:"email,omitempty"`
	Created time.Time `json:"created"`
}

// Certificate that was issued.
type Certificate struct {
	Serial    string    `json:"serial" doc:"Hexadecimal."`
	Profile   string    `json:"profile"`
	Name      string    `json:"name"`
	Device    string    `json:"device,omitempty"`
	Request   string    `json:"request,omitempty"`
	Renews    string    `json:"renews,omitempty" doc:"Serial number of the certificate that this one renews."`
	Issued    time.Time `json:"issued"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Revoked   time.Time `json:"revoked,omitzero" required:"false"`
	Reason    string    `json:"reason,omitempty"`
	SHA256    string    `json:"sha256,omitempty" doc:"Of the certificate in DER, hexadecimal."`
	PEM       string    `json:"pem,omitempty" doc:"Where the certificate itself is kept; not in lists."`
}

// NewCertificate asks for one that isn't a device's.
type NewCertificate struct {
	Profile   string   `json:"profile" enum:"admin,gateway,server,peer,manager,agent"`
	Name      string   `json:"name,omitempty" maxLength:"64" doc:"Of an administrator or a manager."`
	DNSNames  []string `json:"dns_names,omitempty" maxItems:"16"`
	Addresses []string `json:"addresses,omitempty" maxItems:"16"`
	Days      int      `json:"days,omitempty" minimum:"0" maximum:"825" doc:"Lifetime; 0: that of the profile."`
	CSR       string   `json:"csr" maxLength:"16384" doc:"PKCS#10 in PEM. Only its public key is taken."`
}

// IssuedCertificate with its chain up to the root.
type IssuedCertificate struct {
	Certificate Certificate `json:"certificate"`
	Chain       string      `json:"chain" doc:"Issuing CA, then root, PEM."`
}

// Revocation of a certificate.
type Revocation struct {
	Reason string `json:"reason,omitempty" doc:"unspecified, key-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn"`
}

// Entry of the audit record.
type Entry struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Source  string    `json:"source,omitempty"`
	Action  string    `json:"action"`
	Request string    `json:"request,omitempty"`
	Device  string    `json:"device,omitempty"`
	Serial  string    `json:"serial,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// Event of the outbox: what others have to hear.
type Event struct {
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind" enum:"enrolled,renewed,revoked,closed"`
	Device string    `json:"device"`
	User   string    `json:"user,omitempty"`
	Groups []string  `json:"groups"`
	Serial string    `json:"serial,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero" required:"false"`
}

// Server is what an administrator's tools have to know of it.
type Server struct {
	Version     string `json:"version"`
	URL         string `json:"url" doc:"For devices and users."`
	InstanceOID string `json:"instance_oid"`
	Title       string `json:"title"`
	Root        string `json:"root" doc:"Root certificate, PEM."`
	RootSHA256  string `json:"root_sha256" doc:"Of the root certificate in DER, hexadecimal."`
}

// Page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"What to give as after; missing on the last page."`
}
