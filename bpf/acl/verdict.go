package acl

// Verdict on a packet. The names are part of the interface: they label metrics
// and appear in `gatewayd drops`. Everything but VerdictPass drops it.
type Verdict uint8

// Verdicts, in the order in which a packet meets them. The numbers are those of
// access.c.
const (
	VerdictPass       Verdict = iota
	VerdictMalformed          // not IP, or headers that contradict each other or go on for too long
	VerdictUnknown            // no device has that virtual address
	VerdictWrongSA            // from a virtual address that isn't the Child SA's
	VerdictDenied             // a rule denies it, or none allows it
	VerdictFragment           // a rule looks at ports, and there are none
	VerdictDeviceRate         // more than the rate of a device
	VerdictGroupRate          // more than the rate of all devices of the group

	NumVerdicts int = iota
)

var verdictNames = [NumVerdicts]string{
	VerdictPass:       "pass",
	VerdictMalformed:  "malformed",
	VerdictUnknown:    "unknown_device",
	VerdictWrongSA:    "wrong_sa",
	VerdictDenied:     "denied",
	VerdictFragment:   "fragment",
	VerdictDeviceRate: "device_rate",
	VerdictGroupRate:  "group_rate",
}

// String is the name in metrics and tables.
func (v Verdict) String() string {
	if int(v) < NumVerdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Direction of a packet.
type Direction uint8

// Directions.
const (
	In  Direction = iota // from a device
	Out                  // to a device

	NumDirections int = iota
)

// String is the name in metrics.
func (d Direction) String() string {
	if d == In {
		return "in"
	}
	return "out"
}

// Count of packets as they are or will be on the wire, super-packets counted by
// their segments, and of their octets from the IP header on.
type Count struct{ Packets, Bytes uint64 }

// Counters by direction and verdict.
type Counters [NumDirections][NumVerdicts]Count
