package enroll

import (
	"crypto"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/enrollment/otp"
)

// Application of a device for its first certificate, as a skin understood it.
type Application struct {
	// Skin by which it came, for the record: "join", "est", "scep", "windows",
	// "page".
	Skin string
	// Source is the address from which it came, for limits.
	Source netip.Addr
	// ID of the request. Where a protocol has a user name in its place, User is
	// the name or e-mail address; it stands for all open requests of that user, and
	// the password says which. ID is zero then, or what the name is if it is meant
	// as an ID (otp.Login).
	ID   otp.ID
	User string
	// Proof of knowing the password.
	Proof Proof
	// Key that asks: the skin has checked the signature of the certificate
	// request, which proves possession of the private key.
	Key crypto.PublicKey
}

// Proof that whoever applies knows a password: Password or Verify, one of them.
type Proof struct {
	// Password, where a protocol brings it in plain inside TLS or CMS.
	Password *otp.Password
	// Verify says whether an authentication code was made under the request's
	// key bound to the public key that asks (otp.Bind). It compares in constant
	// time and keeps no reference to the key. It is also called with keys that
	// nobody knows.
	Verify func(key []byte) bool
}

// Renewal of a device that has a certificate: the skin has verified that the
// peer holds its private key (TLS, or a CMS signature).
type Renewal struct {
	Skin        string
	Source      netip.Addr
	Certificate *x509.Certificate
	Key         crypto.PublicKey
}

// Issued is what a device gets.
type Issued struct {
	Certificate *x509.Certificate
	// Chain from the issuing CA to the root, both included.
	Chain []*x509.Certificate
	// Device and User that the certificate is for.
	Device string
	User   string
	// Again is set if this certificate had been issued before to the same key:
	// its answer was lost.
	Again bool
	// Key is what Proof.Verify was called with, to authenticate the answer; its
	// receiver erases it. Nil if the proof was a password.
	Key []byte
	// RenewFrom is when the device should ask for its next one.
	RenewFrom time.Time
}
