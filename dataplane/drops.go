package dataplane

// Reason for which a packet was dropped. The names are part of the interface:
// they label metrics and appear in `gatewayd drops`.
type Reason uint8

// Reasons, in the order in which a packet meets them. Inbound is from the
// device, outbound toward it.
const (
	// Inbound, outside.
	ReasonOutsideQueueFull Reason = iota // before any loop read it: the socket's buffer had no room
	ReasonTruncated                      // datagram longer than any buffer
	ReasonShort                          // too short for what it claims to be
	ReasonOuterInside                    // outer source is in the pools or a virtual address
	ReasonIKEQueueFull                   // IKE message, but its reader is behind
	ReasonOwnerBehind                    // another loop's, whose ring is full (either direction)
	ReasonUnknownSPI                     // nobody installed this SPI
	ReasonHardLimit                      // a hard limit was reached (either direction)
	ReasonReplay                         // sequence number seen before
	ReasonReplayOld                      // sequence number left of the window
	ReasonIntegrity                      // ICV is wrong
	ReasonPadding                        // trailer contradicts the length (RFC 4303 section 2.4)
	ReasonNextHeader                     // neither IPv4, IPv6 nor dummy
	ReasonInnerMalformed                 // inner header contradicts its length
	ReasonInnerSource                    // source is not the device's virtual address
	ReasonSelectorIn                     // outside the traffic selectors
	ReasonECN                            // CE outside, Not-ECT inside (RFC 6040 section 4.2)
	ReasonInsideWrite                    // inside interface refused it

	// Outbound, inside.
	ReasonInsideQueueFull   // before any loop read it: the inside device's queue had no room
	ReasonInsideMalformed   // not an IP packet, or GSO metadata contradicts it
	ReasonNoChild           // no Child SA for this virtual address
	ReasonSelectorOut       // outside the traffic selectors
	ReasonTooBig            // larger than the path allows; ICMP was answered
	ReasonSequenceExhausted // sequence numbers used up
	ReasonOutsideSend       // network refused it
	ReasonEventsLost        // not a packet: an event found its channel full

	NumReasons int = iota
)

var reasonNames = [NumReasons]string{
	ReasonOutsideQueueFull:  "outside_queue_full",
	ReasonTruncated:         "truncated",
	ReasonShort:             "short",
	ReasonOuterInside:       "outer_inside",
	ReasonIKEQueueFull:      "ike_queue_full",
	ReasonOwnerBehind:       "owner_behind",
	ReasonUnknownSPI:        "unknown_spi",
	ReasonHardLimit:         "hard_limit",
	ReasonReplay:            "replay",
	ReasonReplayOld:         "replay_old",
	ReasonIntegrity:         "integrity",
	ReasonPadding:           "padding",
	ReasonNextHeader:        "next_header",
	ReasonInnerMalformed:    "inner_malformed",
	ReasonInnerSource:       "inner_source",
	ReasonSelectorIn:        "selector_in",
	ReasonECN:               "ecn",
	ReasonInsideWrite:       "inside_write",
	ReasonInsideQueueFull:   "inside_queue_full",
	ReasonInsideMalformed:   "inside_malformed",
	ReasonNoChild:           "no_child",
	ReasonSelectorOut:       "selector_out",
	ReasonTooBig:            "too_big",
	ReasonSequenceExhausted: "sequence_exhausted",
	ReasonOutsideSend:       "outside_send",
	ReasonEventsLost:        "events_lost",
}

// String is the name in metrics and tables.
func (r Reason) String() string {
	if int(r) < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Drops counts dropped packets by reason; the index is a Reason.
type Drops [NumReasons]uint64
