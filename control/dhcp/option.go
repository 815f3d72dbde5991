package dhcp

import "net/netip"

// Option codes (RFC 2132; RFC 3442; [MS-DHCPE] section 2.2.8).
const (
	optPad          = 0
	optDNS          = 6
	optDomain       = 15
	optWINS         = 44
	optMessageType  = 53
	optServerID     = 54
	optRequested    = 55
	optMaxMessage   = 57
	optClientID     = 61
	optRoutes       = 121
	optRoutesMS     = 249
	optEnd          = 255
	maxOptionLength = 255
)

// optionLen is what a value of n octets takes in a message.
func optionLen(n int) int {
	pieces := max(1, (n+maxOptionLength-1)/maxOptionLength)
	return n + 2*pieces
}

// appendOption writes a value, in pieces of 255 octets if it is longer: one
// behind the other and in order (RFC 3396).
func appendOption(b []byte, code byte, value []byte) []byte {
	for {
		n := min(len(value), maxOptionLength)
		b = append(b, code, byte(n))
		b = append(b, value[:n]...)
		if value = value[n:]; len(value) == 0 {
			return b
		}
	}
}

// appendAddrs writes the IPv4 addresses of the list.
func appendAddrs(b []byte, list []netip.Addr) []byte {
	for _, a := range list {
		if a = a.Unmap(); a.Is4() {
			b = append(b, a.AsSlice()...)
		}
	}
	return b
}
