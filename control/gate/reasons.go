package gate

// Reason why a message went no further, or was answered instead. The names
// label metrics.
type Reason uint8

// Reasons, in the order in which a message meets them.
const (
	ReasonNone           Reason = iota
	ReasonShort                 // shorter than an IKE header
	ReasonOldVersion            // IKEv1 or nonsense
	ReasonNewVersion            // higher major version, answered (RFC 7296 section 2.5)
	ReasonAnswerRate            // higher major version, too many answers lately
	ReasonLength                // length field and datagram disagree
	ReasonInitTooLong           // IKE_SA_INIT longer than any honest one
	ReasonExchange              // not an exchange that is spoken here
	ReasonFlags                 // not of the side that sends such a message
	ReasonInitiatorSPI          // initiator's SPI is zero
	ReasonResponderSPI          // responder's SPI set in IKE_SA_INIT, or zero elsewhere
	ReasonMessageID             // IKE_SA_INIT whose message ID isn't zero
	ReasonFirstPayload          // first payload can't be the first of this exchange
	ReasonPayloads              // payload chain contradicts the length
	ReasonNonce                 // no nonce, two, or one of a wrong length
	ReasonCookieRequired        // answered with a cookie
	ReasonCookieWrong           // cookie forged, expired or another's; answered with a new one
	ReasonPrefixFull            // too many half-open IKE SAs of this source prefix
	ReasonHalfOpenFull          // too many half-open IKE SAs

	NumReasons int = iota
)

var reasonNames = [NumReasons]string{
	ReasonNone:           "none",
	ReasonShort:          "short",
	ReasonOldVersion:     "old_version",
	ReasonNewVersion:     "new_version",
	ReasonAnswerRate:     "answer_rate",
	ReasonLength:         "length",
	ReasonInitTooLong:    "init_too_long",
	ReasonExchange:       "exchange",
	ReasonFlags:          "flags",
	ReasonInitiatorSPI:   "initiator_spi",
	ReasonResponderSPI:   "responder_spi",
	ReasonMessageID:      "message_id",
	ReasonFirstPayload:   "first_payload",
	ReasonPayloads:       "payloads",
	ReasonNonce:          "nonce",
	ReasonCookieRequired: "cookie_required",
	ReasonCookieWrong:    "cookie_wrong",
	ReasonPrefixFull:     "prefix_full",
	ReasonHalfOpenFull:   "half_open_full",
}

// String is the name in metrics and tables.
func (r Reason) String() string {
	if int(r) < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}
