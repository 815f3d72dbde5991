// Package esp seals and opens ESP packets (RFC 4303) in tunnel mode, in place,
// a file a transform, and keeps the anti-replay window.
//
// What lives here: packet transforms and sequence numbers. What doesn't: SAs,
// sockets, selectors, UDP encapsulation; the caller owns all buffers.
package esp

// Transform is the cryptography of one direction of an SA. It holds no packet
// state: sequence numbers come in. A transform is used by one goroutine at a
// time.
//
// An ESP packet here begins with the SPI and ends with the ICV:
//
//	| SPI 4 | sequence 4 | IV | inner packet | padding | pad length | next header | ICV |
//	|<----- HeaderLen ------>|
type Transform interface {
	// HeaderLen is the offset of the inner packet in the ESP packet, in octets.
	HeaderLen() int
	// SealedLen is the length of the ESP packet that carries an inner packet of
	// n octets.
	SealedLen(n int) int
	// Seal makes packet[:SealedLen(n)] the ESP packet for the inner packet of n
	// octets that stands at packet[HeaderLen():], and returns it. seq is the
	// whole 64-bit sequence number; its low half goes on the wire. The caller
	// guarantees cap(packet) >= SealedLen(n) and that a seq is used once.
	Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte
	// Open authenticates packet, decrypts it in place and returns the inner
	// packet, a slice of packet, and its next header. seq is the whole sequence
	// number that the window inferred. Errors: ErrShort, ErrIntegrity,
	// ErrPadding; on an error packet holds no plaintext.
	Open(packet []byte, seq uint64) (inner []byte, nextHeader byte, err error)
	// Erase ends the transform: keys expanded into memory of our own are
	// overwritten, what crypto/cipher and crypto/hmac hold goes with the garbage.
	Erase()
}
