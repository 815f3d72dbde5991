package profile

import (
	"crypto/sha1"
	"fmt"
)

// namespace of the identifiers below, chosen at random once.
var namespace = [16]byte{0x6b, 0x0e, 0x4f, 0x1a, 0x93, 0xd2, 0x4c, 0x57, 0x8a, 0x31, 0x5e, 0x7c, 0x20, 0xb4, 0xd6, 0x98}

// uuid is name-based (version 5, RFC 9562 section 5.5): a device keeps its own
// over re-issued profiles, and part tells the pieces of a profile apart.
func (p *Profile) uuid(part string) string {
	h := sha1.New() // as version 5 says; nothing depends on collisions
	h.Write(namespace[:])
	fmt.Fprintf(h, "%s\x00%s\x00%s", p.Instance, p.Device, part)
	b := h.Sum(nil)[:16]
	b[6] = b[6]&0x0f | 0x50
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
