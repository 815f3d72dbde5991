package gate

import "encoding/binary"

// The numbers of RFC 7296 that are needed here.
const (
	headerLen = 28
	notifyLen = 8 // of a notify payload without data
	// maxInit is more than an IKE_SA_INIT with any one key exchange needs; it
	// can't be fragmented (RFC 7383 section 2.5.2), so no client goes near it.
	maxInit = 4096

	version2 = 0x20

	exchangeInit          = 34
	exchangeAuth          = 35
	exchangeCreateChild   = 36
	exchangeInformational = 37
	exchangeResume        = 38 // RFC 5723

	flagInitiator = 0x08
	flagResponse  = 0x20

	payloadSA        = 33
	payloadKE        = 34
	payloadNonce     = 40
	payloadNotify    = 41
	payloadVendor    = 43
	payloadEncrypted = 46
	payloadFragment  = 53

	groupMODP2048 = 14
	groupMODP3072 = 15
	groupMODP4096 = 16
	groupECP521   = 21

	protocolIKE = 1

	notifyInvalidIKESPI       = 4
	notifyInvalidMajorVersion = 5
	notifyInvalidSPI          = 11
	notifyCookie              = 16390
	notifyTicketNACK          = 16412 // RFC 5723
	notifyTicketOpaque        = 16413
	notifyCrashToken          = 16419
)

// Header is what routing a message takes (RFC 7296 section 3.1).
type Header struct {
	InitiatorSPI, ResponderSPI uint64
	// Init: it is an IKE_SA_INIT, or an IKE_SESSION_RESUME, which stands in its
	// place (RFC 5723 section 4.3.2).
	Init bool
	// Resume: it is an IKE_SESSION_RESUME.
	Resume bool
	// FromInitiator: the sender is the IKE SA's original initiator, so the
	// receiver's SPI is the responder's. The other way round it is after a
	// rekeying that the gateway began.
	FromInitiator bool

	first, version, exchange, flags uint8
	messageID, length               uint32
}

func readHeader(b []byte) (h Header, ok bool) {
	if len(b) < headerLen {
		return Header{}, false
	}
	return Header{
		InitiatorSPI: binary.BigEndian.Uint64(b),
		ResponderSPI: binary.BigEndian.Uint64(b[8:]),
		Init:         b[18] == exchangeInit || b[18] == exchangeResume,
		Resume:       b[18] == exchangeResume,
		first:        b[16],
		version:      b[17],
		exchange:     b[18],
		flags:        b[19],
		messageID:    binary.BigEndian.Uint32(b[20:]),
		length:       binary.BigEndian.Uint32(b[24:]),

		FromInitiator: b[19]&flagInitiator != 0,
	}, true
}

// SPI is the receiver's, except in the first message, where it has none yet.
func (h *Header) SPI() uint64 {
	if h.FromInitiator {
		return h.ResponderSPI
	}
	return h.InitiatorSPI
}

// check returns what is wrong with a header of version 2. The gateway begins no
// IKE SA but in place of one that is up, so IKE_SA_INIT, IKE_SESSION_RESUME and IKE_AUTH come from
// the initiator, and no answers to them. Everything else may be a request or an
// answer, of either side's IKE SA.
func (h *Header) check(datagram int) Reason {
	switch {
	case uint64(h.length) != uint64(datagram):
		return ReasonLength
	case h.exchange < exchangeInit || h.exchange > exchangeResume:
		return ReasonExchange
	case h.Init && !h.FromInitiator:
		return ReasonFlags
	case h.InitiatorSPI == 0:
		return ReasonInitiatorSPI
	case h.Init:
		return h.checkInit()
	case h.exchange == exchangeAuth && (!h.FromInitiator || h.flags&flagResponse != 0):
		return ReasonFlags
	case h.ResponderSPI == 0:
		return ReasonResponderSPI
	case h.first != payloadEncrypted && h.first != payloadFragment:
		return ReasonFirstPayload
	}
	return ReasonNone
}

func (h *Header) checkInit() Reason {
	switch {
	case h.length > maxInit:
		return ReasonInitTooLong
	case h.flags&flagResponse != 0:
		return ReasonFlags
	case h.ResponderSPI != 0:
		return ReasonResponderSPI
	case h.messageID != 0:
		return ReasonMessageID
	}
	switch h.first {
	case payloadSA, payloadKE, payloadNonce, payloadNotify, payloadVendor:
		return ReasonNone
	}
	return ReasonFirstPayload
}
