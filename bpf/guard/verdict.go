package guard

// Verdict about a packet, in the order of enum verdict in maps.h.
type Verdict uint8

const (
	// Other is not the gateway's, or can't be read: left alone.
	Other Verdict = iota
	// ESP of a known SPI passes.
	ESP
	// IKE messages pass, except for the first of an IKE SA.
	IKE
	// Init is the first message of an IKE SA, within the rates: it passes.
	Init
	// InitCookie is one with a valid cookie: it passes.
	InitCookie
	// Fragment, not the first of its packet: passes at a rate.
	Fragment
	// CookieSent: a first message beyond the rates was answered with COOKIE.
	CookieSent
	// ESPUnknown is ESP of an unknown SPI: dropped.
	ESPUnknown
	// InitLimited: first message beyond the rates, dropped without an answer.
	InitLimited
	// InitMalformed is beyond the rates and nothing that could be answered.
	InitMalformed
	// FragmentLimited is a later fragment beyond the rate.
	FragmentLimited
	// Keepalive of a NAT (RFC 3948 section 2.3): has done its work, dropped.
	Keepalive
	// Shield dropped what isn't the gateway's.
	Shield

	NumVerdicts int = iota
)

var verdictNames = [NumVerdicts]string{
	Other:           "other",
	ESP:             "esp",
	IKE:             "ike",
	Init:            "init",
	InitCookie:      "init_cookie",
	Fragment:        "fragment",
	CookieSent:      "cookie_sent",
	ESPUnknown:      "esp_unknown_spi",
	InitLimited:     "init_limited",
	InitMalformed:   "init_malformed",
	FragmentLimited: "fragment_limited",
	Keepalive:       "keepalive",
	Shield:          "shield",
}

// String is the name in metrics and tables.
func (v Verdict) String() string {
	if int(v) < NumVerdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Drops says whether the packet went nowhere.
func (v Verdict) Drops() bool { return v > CookieSent }
