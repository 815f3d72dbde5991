package ikewire

import (
	"encoding/binary"
	"strconv"
)

// HeaderLen is the length of the IKE header in octets.
const HeaderLen = 28

// Version2 is the version octet of this protocol: major 2, minor 0.
const Version2 uint8 = 0x20

// Header is the IKE header (RFC 7296 section 3.1).
type Header struct {
	InitiatorSPI, ResponderSPI uint64
	// NextPayload is the type of the first payload.
	NextPayload PayloadType
	// Version: major in the upper four bits, minor in the lower.
	Version   uint8
	Exchange  ExchangeType
	Flags     Flags
	MessageID uint32
	// Length of the whole message in octets, the header included.
	Length uint32
}

// Flags of the IKE header.
type Flags uint8

const (
	// FlagInitiator: sent by the original initiator of the IKE SA.
	FlagInitiator Flags = 0x08
	// FlagVersion: the sender could speak a higher major version.
	FlagVersion Flags = 0x10
	// FlagResponse: answers a request with the same message ID.
	FlagResponse Flags = 0x20
)

// IsResponse tells a response from a request.
func (h *Header) IsResponse() bool { return h.Flags&FlagResponse != 0 }

// FromInitiator says whether the original initiator of the IKE SA sent this.
func (h *Header) FromInitiator() bool { return h.Flags&FlagInitiator != 0 }

// ExchangeType of a message (IANA "IKEv2 Exchange Types").
type ExchangeType uint8

const (
	IKESAInit        ExchangeType = 34
	IKEAuth          ExchangeType = 35
	CreateChildSA    ExchangeType = 36
	Informational    ExchangeType = 37
	IKESessionResume ExchangeType = 38 // RFC 5723
	IKEIntermediate  ExchangeType = 43 // RFC 9242
	IKEFollowupKE    ExchangeType = 44 // RFC 9370
)

func (t ExchangeType) String() string {
	switch t {
	case IKESAInit:
		return "IKE_SA_INIT"
	case IKEAuth:
		return "IKE_AUTH"
	case CreateChildSA:
		return "CREATE_CHILD_SA"
	case Informational:
		return "INFORMATIONAL"
	case IKESessionResume:
		return "IKE_SESSION_RESUME"
	case IKEIntermediate:
		return "IKE_INTERMEDIATE"
	case IKEFollowupKE:
		return "IKE_FOLLOWUP_KE"
	}
	return "EXCHANGE_" + strconv.Itoa(int(t))
}

// ParseHeader reads the header of a whole message b. Errors: ErrTruncated;
// ErrVersion and ErrLength, with which the header is returned nevertheless.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, fieldError(len(b), "IKE header", ErrTruncated)
	}
	h := Header{
		InitiatorSPI: binary.BigEndian.Uint64(b),
		ResponderSPI: binary.BigEndian.Uint64(b[8:]),
		NextPayload:  PayloadType(b[16]),
		Version:      b[17],
		Exchange:     ExchangeType(b[18]),
		Flags:        Flags(b[19]),
		MessageID:    binary.BigEndian.Uint32(b[20:]),
		Length:       binary.BigEndian.Uint32(b[24:]),
	}
	if h.Version>>4 != Version2>>4 {
		return h, fieldError(17, "version "+strconv.Itoa(int(h.Version>>4)), ErrVersion)
	}
	if uint64(h.Length) != uint64(len(b)) {
		return h, fieldError(24, "message length", ErrLength)
	}
	return h, nil
}

// appendHeader writes h as it stands; a zero Version becomes Version2.
func appendHeader(dst []byte, h *Header) []byte {
	version := h.Version
	if version == 0 {
		version = Version2
	}
	dst = binary.BigEndian.AppendUint64(dst, h.InitiatorSPI)
	dst = binary.BigEndian.AppendUint64(dst, h.ResponderSPI)
	dst = append(dst, byte(h.NextPayload), version, byte(h.Exchange), byte(h.Flags))
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	return binary.BigEndian.AppendUint32(dst, h.Length)
}
