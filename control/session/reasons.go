package session

// Reason why a message was dropped, or something asked for by one was not done,
// after package gate let it pass. The names label metrics.
type Reason uint8

// Reasons.
const (
	ReasonInboxFull     Reason = iota // shard is behind
	ReasonUnknownIKESPI               // no IKE SA with this responder SPI
	ReasonWorkersBusy                 // IKE_SA_INIT while much work waits
	ReasonShuttingDown                // IKE_SA_INIT while sessions are being closed
	ReasonNoRandomness                // IKE_SA_INIT, but no SPI could be drawn
	ReasonSessionsFull                // authenticated device, but no session is free
	ReasonSendFailed                  // the network refused a message of ours
	ReasonESPUnanswered               // ESP with an unknown SPI that was not answered

	NumReasons int = iota
)

var reasonNames = [NumReasons]string{
	ReasonInboxFull:     "inbox_full",
	ReasonUnknownIKESPI: "unknown_ike_spi",
	ReasonWorkersBusy:   "workers_busy",
	ReasonShuttingDown:  "shutting_down",
	ReasonNoRandomness:  "no_randomness",
	ReasonSessionsFull:  "sessions_full",
	ReasonSendFailed:    "send_failed",
	ReasonESPUnanswered: "esp_unanswered",
}

// String is the name in metrics and tables.
func (r Reason) String() string {
	if int(r) < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}
