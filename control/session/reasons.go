package session

// Reason why a message was dropped, or something asked for by one was not done,
// after package gate let it pass. The names label metrics.
type Reason uint8

// Reasons.
const (
	ReasonInboxFull     Reason = iota // shard is behind
	ReasonUnknownIKESPI               // no IKE SA with this SPI of ours
	ReasonWaitsAlready                // IKE_SA_INIT that is repeated while it waits for its turn
	ReasonWaitedTooLong               // IKE_SA_INIT whose turn didn't come in time
	ReasonShuttingDown                // IKE_SA_INIT while sessions are being closed
	ReasonNoRandomness                // IKE_SA_INIT or rekeying, but no SPI could be drawn
	ReasonSessionsFull                // authenticated device, but no session is free
	ReasonSendFailed                  // the network refused a message of ours
	ReasonESPUnanswered               // ESP with an unknown SPI that was not answered
	ReasonHintRate                    // address hint too soon after the one before
	ReasonRekeyedSAs                  // rekeyed IKE SA that was forgotten because its peer leaves too many
	ReasonRecordLost                  // start or interim record, but too many wait

	NumReasons int = iota
)

var reasonNames = [NumReasons]string{
	ReasonInboxFull:     "inbox_full",
	ReasonUnknownIKESPI: "unknown_ike_spi",
	ReasonWaitsAlready:  "waits_already",
	ReasonWaitedTooLong: "waited_too_long",
	ReasonShuttingDown:  "shutting_down",
	ReasonNoRandomness:  "no_randomness",
	ReasonSessionsFull:  "sessions_full",
	ReasonSendFailed:    "send_failed",
	ReasonESPUnanswered: "esp_unanswered",
	ReasonHintRate:      "address_hint_rate",
	ReasonRekeyedSAs:    "too_many_rekeyed",
	ReasonRecordLost:    "record_lost",
}

// String is the name in metrics and tables.
func (r Reason) String() string {
	if int(r) < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}
