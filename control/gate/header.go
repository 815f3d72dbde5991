package gate

import "encoding/binary"

// The numbers of RFC 7296 that are needed here.
const (
	headerLen = 28
	// maxInit is more than an IKE_SA_INIT with any one key exchange needs; it
	// can't be fragmented (RFC 7383 section 2.5.2), so no client goes near it.
	maxInit = 4096

	version2 = 0x20

	exchangeInit          = 34
	exchangeAuth          = 35
	exchangeCreateChild   = 36
	exchangeInformational = 37

	flagInitiator = 0x08
	flagResponse  = 0x20

	payloadSA        = 33
	payloadKE        = 34
	payloadNonce     = 40
	payloadNotify    = 41
	payloadVendor    = 43
	payloadEncrypted = 46
	payloadFragment  = 53

	notifyInvalidMajorVersion = 5
	notifyInvalidSPI          = 11
	notifyCookie              = 16390
)

// Header is what routing a message takes (RFC 7296 section 3.1).
type Header struct {
	InitiatorSPI, ResponderSPI uint64
	// Init: it is an IKE_SA_INIT.
	Init bool

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
		Init:         b[18] == exchangeInit,
		first:        b[16],
		version:      b[17],
		exchange:     b[18],
		flags:        b[19],
		messageID:    binary.BigEndian.Uint32(b[20:]),
		length:       binary.BigEndian.Uint32(b[24:]),
	}, true
}

// check returns what is wrong with a header of version 2. Only messages of an
// IKE SA's original initiator are let in: the gateway starts none itself. The
// response flag is right where we asked: DELETE and liveness checks.
func (h *Header) check(datagram int) Reason {
	switch {
	case uint64(h.length) != uint64(datagram):
		return ReasonLength
	case h.exchange < exchangeInit || h.exchange > exchangeInformational:
		return ReasonExchange
	case h.flags&flagInitiator == 0:
		return ReasonFlags
	case h.InitiatorSPI == 0:
		return ReasonInitiatorSPI
	case h.Init:
		return h.checkInit()
	case h.exchange == exchangeAuth && h.flags&flagResponse != 0:
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
