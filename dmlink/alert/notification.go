package alert

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

var (
	// ErrMalformed: octets that are no notification.
	ErrMalformed = errors.New("malformed notification")
	// ErrInvalid: a notification that can't be written.
	ErrInvalid = errors.New("invalid notification")
	// ErrDigest: nobody who knows the password made it, or with another nonce.
	ErrDigest = errors.New("digest of the notification is wrong")
)

// RetryNonce is used when the nonces of both sides have come apart: 0x00000000,
// four octets.
var RetryNonce = []byte{0, 0, 0, 0}

// UIMode is what the server recommends to show the user.
type UIMode uint8

const (
	UnspecifiedUI UIMode = iota
	Background
	Informative
	Interactive
)

// Initiator of the alert.
type Initiator uint8

const (
	ByClient Initiator = iota
	ByServer
)

// Limits in octets.
const (
	// MaxServer of a server identifier; it has one octet of length.
	MaxServer = 255
	// MaxVendor of the vendor's part: a notification fits into one datagram
	// anywhere.
	MaxVendor = 512
	// headerLen of the trigger without the server identifier.
	headerLen = 8
	// MaxNotification of a whole one.
	MaxNotification = md5.Size + headerLen + MaxServer + MaxVendor
)

// Notification is Package #0 (section 6.2), big-endian:
//
//	digest[16] version:10 ui-mode:2 initiator:1 future:27 sessionid:16
//	length:8 server[length] vendor
//
// All behind the digest is the trigger.
type Notification struct {
	// Version of DM that the server wants to speak: 1.1 or 1.2.
	Version   syncml.Version
	UI        UIMode
	Initiator Initiator
	// SessionID of the session that the device shall open.
	SessionID uint16
	// Server identifier, 1 to MaxServer octets; with the password it is what the
	// device knows the server by.
	Server string
	// Vendor has what a vendor puts there; usually nothing.
	Vendor []byte
}

// Version numbers: tenths.
const (
	version11 = 11
	version12 = 12
)

// Append the notification with its digest. Errors: ErrInvalid.
func (n *Notification) Append(dst, password, nonce []byte) ([]byte, error) {
	switch {
	case n.Server == "" || len(n.Server) > MaxServer:
		return dst, fmt.Errorf("%w: a server identifier of %d octets, want 1 to %d", ErrInvalid, len(n.Server), MaxServer)
	case len(n.Vendor) > MaxVendor:
		return dst, fmt.Errorf("%w: %d octets of a vendor, at most %d", ErrInvalid, len(n.Vendor), MaxVendor)
	case n.UI > Interactive || n.Initiator > ByServer:
		return dst, fmt.Errorf("%w: UI mode %d, initiator %d", ErrInvalid, n.UI, n.Initiator)
	}
	version := uint32(version12)
	if n.Version == syncml.V11 {
		version = version11
	}
	trigger := make([]byte, 0, headerLen+len(n.Server)+len(n.Vendor))
	trigger = binary.BigEndian.AppendUint32(trigger, version<<22|uint32(n.UI)<<20|uint32(n.Initiator)<<19)
	trigger = append(trigger, 0) // the rest of what is kept for the future
	trigger = binary.BigEndian.AppendUint16(trigger, n.SessionID)
	trigger = append(trigger, byte(len(n.Server)))
	trigger = append(append(trigger, n.Server...), n.Vendor...)
	return append(append(dst, digest(n.Server, password, nonce, trigger)...), trigger...), nil
}

// digest is MD5(B64(MD5(server:password)):nonce:B64(MD5(trigger))), the form
// that the MAC of a message has.
func digest(server string, password, nonce, trigger []byte) []byte {
	return syncml.NewMAC(server, password, nonce, trigger).Digest
}

// Parse octets of anybody. Nothing of the result may be believed before Verify
// has said so of the same octets. Errors: ErrMalformed.
func Parse(octets []byte) (*Notification, error) {
	if len(octets) < md5.Size+headerLen+1 || len(octets) > MaxNotification {
		return nil, fmt.Errorf("%w: %d octets", ErrMalformed, len(octets))
	}
	trigger := octets[md5.Size:]
	bits := binary.BigEndian.Uint32(trigger)
	n := &Notification{
		UI: UIMode(bits >> 20 & 3), Initiator: Initiator(bits >> 19 & 1),
		SessionID: binary.BigEndian.Uint16(trigger[5:]),
	}
	// What is kept for the future is skipped: the digest has it.
	switch v := bits >> 22; v {
	case version11:
		n.Version = syncml.V11
	case version12:
		n.Version = syncml.V12
	default:
		return nil, fmt.Errorf("%w: version %d", ErrMalformed, v)
	}
	length, rest := int(trigger[7]), trigger[headerLen:]
	if length == 0 || length > len(rest) {
		return nil, fmt.Errorf("%w: a server identifier of %d octets with %d left", ErrMalformed, length, len(rest))
	}
	n.Server = string(rest[:length])
	if len(rest)-length > MaxVendor {
		return nil, fmt.Errorf("%w: %d octets of a vendor", ErrMalformed, len(rest)-length)
	}
	if len(rest) > length {
		n.Vendor = append([]byte(nil), rest[length:]...)
	}
	return n, nil
}

// Verify octets, which Parse has taken, with the server's password and the nonce
// that it should have used, then with RetryNonce. Resync says that it was the
// latter: the nonces have come apart. Errors: ErrMalformed, ErrDigest.
func Verify(octets, password, nonce []byte) (resync bool, err error) {
	n, err := Parse(octets)
	if err != nil {
		return false, err
	}
	trigger := octets[md5.Size:]
	own := subtle.ConstantTimeCompare(octets[:md5.Size], digest(n.Server, password, nonce, trigger))
	retry := subtle.ConstantTimeCompare(octets[:md5.Size], digest(n.Server, password, RetryNonce, trigger))
	if own|retry == 0 {
		return false, ErrDigest
	}
	return own == 0, nil
}
