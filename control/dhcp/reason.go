package dhcp

// Reason why a message was not answered. The names label metrics.
type Reason uint8

// Reasons, in the order in which a message meets them.
const (
	ReasonNone      Reason = iota
	ReasonPool             // source is in no pool
	ReasonSources          // too many devices ask at once
	ReasonRate             // this device asks too often
	ReasonLong             // longer than any honest message
	ReasonShort            // shorter than the fixed fields and the cookie
	ReasonReply            // not a BOOTREQUEST
	ReasonCookie           // BOOTP without DHCP's magic cookie
	ReasonMalformed        // options contradict the length
	ReasonType             // DHCP, but not a DHCPINFORM
	ReasonRelayed          // giaddr is set
	ReasonAddress          // ciaddr is not the source
	ReasonSend             // network refused the answer

	NumReasons int = iota
)

var reasonNames = [NumReasons]string{
	ReasonNone:      "none",
	ReasonPool:      "pool",
	ReasonSources:   "sources",
	ReasonRate:      "rate",
	ReasonLong:      "long",
	ReasonShort:     "short",
	ReasonReply:     "reply",
	ReasonCookie:    "cookie",
	ReasonMalformed: "malformed",
	ReasonType:      "type",
	ReasonRelayed:   "relayed",
	ReasonAddress:   "address",
	ReasonSend:      "send",
}

// String is the name in metrics and tables.
func (r Reason) String() string {
	if int(r) < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}
