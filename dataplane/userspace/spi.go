package userspace

import "github.com/roamgate/roamgate/dataplane"

// Layout of an inbound SPI, from the highest bit:
//
//	| member 1 | loop 5 | slot 20 | tag 6 |
//
// member: which of the two processes of a hand-over drew it. loop: who owns
// the SA. slot: its place in that loop's table of that member. tag: from a
// random one on the next one each time the slot is used, so that a stray packet for the slot's
// last SA is told from the present one before any cryptography.
//
// Slots below firstSlot stay unused: with member and loop 0 they would give
// SPIs below 256, which are reserved (RFC 4303 section 2.1).
//
// Only this package and bpf/steer may look inside an SPI.
const (
	tagBits  = 6
	slotBits = 20
	loopBits = 5

	slotShift   = tagBits
	loopShift   = slotShift + slotBits
	memberShift = loopShift + loopBits

	maxSlots  = 1 << slotBits
	firstSlot = 256 >> slotShift
	tags      = 1 << tagBits
)

// LoopOf is the bits of an inbound SPI that say which loop owns it: shift, then
// mask.
const (
	LoopShift = loopShift
	LoopMask  = 1<<loopBits - 1
)

func makeSPI(member, loop uint8, slot uint32, tag uint8) dataplane.SPI {
	return dataplane.SPI(uint32(member)<<memberShift | uint32(loop)<<loopShift | slot<<slotShift | uint32(tag))
}

func memberOf(spi dataplane.SPI) uint8 { return uint8(spi >> memberShift) }
func loopOf(spi dataplane.SPI) uint8   { return uint8(spi >> loopShift & (1<<loopBits - 1)) }
func slotOf(spi dataplane.SPI) uint32  { return uint32(spi >> slotShift & (maxSlots - 1)) }
func tagOf(spi dataplane.SPI) uint8    { return uint8(spi & (tags - 1)) }
