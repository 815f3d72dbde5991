package ticket

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Contents of a ticket. Slices that Open returns are the caller's.
type Contents struct {
	// Issued, and Expires: the end of the ticket, both to the second.
	Issued, Expires time.Time
	// Authenticated is when the device last proved who it is by its certificate;
	// resuming doesn't move it (RFC 5723 section 5, time of re-authentication).
	Authenticated time.Time
	// SkD of the IKE SA, a secret: whoever has it erases it.
	SkD []byte
	// Transform IDs of the IKE SA (RFC 7296 section 3.3.2).
	Encryption, KeyBits, Integrity, PRF, Group uint16
	// Peer and Own are the bodies of IDi and IDr (RFC 7296 section 3.5), up to
	// 1,024 octets.
	Peer, Own []byte
	// Session in which it was issued.
	Session uint64
	// Addresses of the device inside, at most one of each family.
	Addresses []netip.Addr
	// Auth says how the device was authenticated, Client who made it; for
	// people. At most 255 octets each, as is Device.
	Auth, Client string
	// Standing is what the authorisation rests on.
	Standing
}

// Standing is what an authorisation rests on, so that it can be decided again
// without the certificates.
type Standing struct {
	Device string
	// Epoch of authorisations that it belongs to.
	Epoch uint64
	// Instance is the instance OID by which the device got in, in DER without
	// header; empty if none was asked for.
	Instance []byte
	// Units are the organizational units of the certificate, at most 8 of at most
	// 255 octets.
	Units []string
	// Until is when the first certificate of the path expires.
	Until time.Time
	// Anchor is the root's fingerprint.
	Anchor [32]byte
	// Path is what issuers may revoke, the device's certificate first; at most
	// 16.
	Path []Link
}

// Link is a certificate as those see it who revoke it.
type Link struct {
	// Issuer is a digest of the issuer's name and key.
	Issuer [16]byte
	// Serial number, big-endian; at most 32 octets.
	Serial []byte
}

const (
	maxID      = 1024
	maxLinks   = 16
	maxUnits   = 8
	maxSerial  = 32
	maxSkD     = 64
	minSkD     = 20
	maxOID     = 128
	maxAddress = 2
)

func (c *Contents) check() error {
	switch {
	case len(c.SkD) < minSkD || len(c.SkD) > maxSkD:
		return fmt.Errorf("%w: SK_d of %d octets", ErrContents, len(c.SkD))
	case len(c.Peer) < 4 || len(c.Peer) > maxID || len(c.Own) < 4 || len(c.Own) > maxID:
		return fmt.Errorf("%w: identities of %d and %d octets", ErrContents, len(c.Peer), len(c.Own))
	case c.Device == "" || len(c.Device) > 255 || len(c.Auth) > 255 || len(c.Client) > 255:
		return fmt.Errorf("%w: names of %d, %d and %d octets", ErrContents, len(c.Device), len(c.Auth), len(c.Client))
	case len(c.Instance) > maxOID:
		return fmt.Errorf("%w: OID of %d octets", ErrContents, len(c.Instance))
	case len(c.Addresses) > maxAddress:
		return fmt.Errorf("%w: %d addresses", ErrContents, len(c.Addresses))
	case len(c.Path) == 0 || len(c.Path) > maxLinks:
		return fmt.Errorf("%w: path of %d certificates", ErrContents, len(c.Path))
	}
	if len(c.Units) > maxUnits || slices.ContainsFunc(c.Units, func(u string) bool { return len(u) > 255 }) {
		return fmt.Errorf("%w: %d organizational units, or a long one", ErrContents, len(c.Units))
	}
	for _, l := range c.Path {
		if len(l.Serial) > maxSerial {
			return fmt.Errorf("%w: serial number of %d octets", ErrContents, len(l.Serial))
		}
	}
	return nil
}

// append writes what decode reads: integers big-endian, each slice behind its
// length in one octet, identities in two.
func (c *Contents) append(b []byte) []byte {
	for _, t := range []time.Time{c.Issued, c.Expires, c.Authenticated, c.Until} {
		b = binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
	}
	for _, v := range []uint16{c.Encryption, c.KeyBits, c.Integrity, c.PRF, c.Group} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = appendShort(b, c.SkD)
	for _, id := range [][]byte{c.Peer, c.Own} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(id))), id...)
	}
	b = binary.BigEndian.AppendUint64(b, c.Session)
	b = append(b, byte(len(c.Addresses)))
	for _, a := range c.Addresses {
		b = appendShort(b, a.AsSlice())
	}
	b = appendShort(b, []byte(c.Auth))
	b = appendShort(b, []byte(c.Client))
	b = appendShort(b, []byte(c.Device))
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = appendShort(b, c.Instance)
	b = append(b, byte(len(c.Units)))
	for _, u := range c.Units {
		b = appendShort(b, []byte(u))
	}
	b = append(b, c.Anchor[:]...)
	b = append(b, byte(len(c.Path)))
	for _, l := range c.Path {
		b = append(b, l.Issuer[:]...)
		b = appendShort(b, l.Serial)
	}
	return b
}

func appendShort(b, data []byte) []byte { return append(append(b, byte(len(data))), data...) }

// reader takes a buffer apart; after the first shortage all that it reads is
// zero and short is set.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b) {
		r.short = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint8() int {
	if v := r.take(1); v != nil {
		return int(v[0])
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) time() time.Time { return time.Unix(int64(r.uint64()), 0) }

// text copies, octets don't.
func (r *reader) octets() []byte { return r.take(r.uint8()) }
func (r *reader) text() string   { return string(r.octets()) }

// decode reads contents, strictly: all of b, nothing over a bound.
func decode(b []byte) (*Contents, error) {
	r := &reader{b: b}
	c := &Contents{Issued: r.time(), Expires: r.time(), Authenticated: r.time()}
	c.Until = r.time()
	c.Encryption, c.KeyBits, c.Integrity, c.PRF, c.Group = r.uint16(), r.uint16(), r.uint16(), r.uint16(), r.uint16()
	c.SkD = r.octets()
	c.Peer = r.take(int(r.uint16()))
	c.Own = r.take(int(r.uint16()))
	c.Session = r.uint64()
	for n := r.uint8(); n > 0 && !r.short; n-- {
		a, ok := netip.AddrFromSlice(r.octets())
		if !ok || len(c.Addresses) == maxAddress {
			return nil, ErrMalformed
		}
		c.Addresses = append(c.Addresses, a)
	}
	c.Auth, c.Client, c.Device = r.text(), r.text(), r.text()
	c.Epoch = r.uint64()
	c.Instance = r.octets()
	for n := r.uint8(); n > 0 && !r.short; n-- {
		if len(c.Units) == maxUnits {
			return nil, ErrMalformed
		}
		c.Units = append(c.Units, r.text())
	}
	copy(c.Anchor[:], r.take(len(c.Anchor)))
	for n := r.uint8(); n > 0 && !r.short; n-- {
		var l Link
		copy(l.Issuer[:], r.take(len(l.Issuer)))
		l.Serial = r.octets()
		if len(c.Path) == maxLinks {
			return nil, ErrMalformed
		}
		c.Path = append(c.Path, l)
	}
	if r.short || len(r.b) > 0 || c.check() != nil {
		return nil, ErrMalformed
	}
	return c, nil
}
