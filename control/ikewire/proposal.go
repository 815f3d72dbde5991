package ikewire

import "strconv"

// ProtocolID of a proposal, notify or delete payload (IANA "IKEv2 Security
// Protocol Identifiers").
type ProtocolID uint8

const (
	ProtocolNone ProtocolID = 0
	ProtocolIKE  ProtocolID = 1
	ProtocolAH   ProtocolID = 2
	ProtocolESP  ProtocolID = 3
)

func (p ProtocolID) String() string {
	switch p {
	case ProtocolNone:
		return "NONE"
	case ProtocolIKE:
		return "IKE"
	case ProtocolAH:
		return "AH"
	case ProtocolESP:
		return "ESP"
	}
	return "PROTOCOL_" + strconv.Itoa(int(p))
}

// TransformType says what an algorithm is for (IANA "Transform Type Values").
type TransformType uint8

const (
	TransformENCR  TransformType = 1 // encryption
	TransformPRF   TransformType = 2 // pseudorandom function, IKE only
	TransformINTEG TransformType = 3 // integrity; absent or NONE beside AEAD
	TransformKE    TransformType = 4 // key exchange method
	TransformESN   TransformType = 5 // sequence numbers, ESP and AH only
	TransformADDKE TransformType = 6 // first of seven additional key exchanges, RFC 9370
)

// maxADDKE is the last of the seven additional key exchanges.
const maxADDKE = TransformADDKE + 6

func (t TransformType) String() string {
	switch t {
	case TransformENCR:
		return "ENCR"
	case TransformPRF:
		return "PRF"
	case TransformINTEG:
		return "INTEG"
	case TransformKE:
		return "KE"
	case TransformESN:
		return "ESN"
	case TransformADDKE:
	}
	if t >= TransformADDKE && t <= maxADDKE {
		return "ADDKE" + strconv.Itoa(int(t-TransformADDKE)+1)
	}
	return "TRANSFORM_" + strconv.Itoa(int(t))
}

// Encryption algorithms (IANA "Transform Type 1").
const (
	Encr3DES             uint16 = 3
	EncrNULL             uint16 = 11
	EncrAESCBC           uint16 = 12
	EncrAESCTR           uint16 = 13
	EncrAESCCM8          uint16 = 14
	EncrAESCCM12         uint16 = 15
	EncrAESCCM16         uint16 = 16
	EncrAESGCM8          uint16 = 18
	EncrAESGCM12         uint16 = 19
	EncrAESGCM16         uint16 = 20
	EncrChaCha20Poly1305 uint16 = 28
)

// Pseudorandom functions (IANA "Transform Type 2").
const (
	PRFHMACMD5    uint16 = 1
	PRFHMACSHA1   uint16 = 2
	PRFAESXCBC    uint16 = 4
	PRFHMACSHA256 uint16 = 5
	PRFHMACSHA384 uint16 = 6
	PRFHMACSHA512 uint16 = 7
	PRFAESCMAC    uint16 = 8
)

// Integrity algorithms (IANA "Transform Type 3"). The SHA-2 ones are cut to
// half their hash.
const (
	IntegNone       uint16 = 0
	IntegHMACMD5    uint16 = 1
	IntegHMACSHA1   uint16 = 2
	IntegAESXCBC    uint16 = 5
	IntegAESCMAC    uint16 = 8
	IntegHMACSHA256 uint16 = 12
	IntegHMACSHA384 uint16 = 13
	IntegHMACSHA512 uint16 = 14
)

// Key exchange methods (IANA "Transform Type 4").
const (
	GroupNone       uint16 = 0
	GroupMODP768    uint16 = 1
	GroupMODP1024   uint16 = 2
	GroupMODP1536   uint16 = 5
	GroupMODP2048   uint16 = 14
	GroupMODP3072   uint16 = 15
	GroupMODP4096   uint16 = 16
	GroupMODP6144   uint16 = 17
	GroupMODP8192   uint16 = 18
	GroupECP256     uint16 = 19
	GroupECP384     uint16 = 20
	GroupECP521     uint16 = 21
	GroupCurve25519 uint16 = 31
	GroupCurve448   uint16 = 32
	GroupMLKEM512   uint16 = 35
	GroupMLKEM768   uint16 = 36
	GroupMLKEM1024  uint16 = 37
)

// Sequence numbers (IANA "Transform Type 5").
const (
	ESNNo  uint16 = 0 // 32 bits
	ESNYes uint16 = 1 // 64 bits
)

// TransformName is the name of the transform ID of a type, such as
// "AES_GCM_16", "PRF_HMAC_SHA2_256", "HMAC_SHA2_256_128", "CURVE_25519".
func TransformName(t TransformType, id uint16) string {
	names := transformNames[t]
	if t > TransformADDKE && t <= maxADDKE {
		names = transformNames[TransformKE]
	}
	if s, ok := names[id]; ok {
		return s
	}
	return t.String() + "_" + strconv.Itoa(int(id))
}

// String is the name and, where there is one, the key length in bits:
// "AES_GCM_16_128".
func (t Transform) String() string {
	s := TransformName(t.Type, t.ID)
	if t.KeyBits != 0 {
		s += "_" + strconv.Itoa(int(t.KeyBits))
	}
	if t.Attributes != "" {
		s += "_WITH_ATTRIBUTES"
	}
	return s
}

// String shows a proposal like "ESP:AES_GCM_16_128/NO_EXT_SEQ".
func (p *Proposal) String() string {
	s := p.Protocol.String()
	sep := ":"
	for _, t := range p.Transforms {
		s += sep + t.String()
		sep = "/"
	}
	return s
}

var groupNames = map[uint16]string{
	GroupNone:       "NONE",
	GroupMODP768:    "MODP_768",
	GroupMODP1024:   "MODP_1024",
	GroupMODP1536:   "MODP_1536",
	GroupMODP2048:   "MODP_2048",
	GroupMODP3072:   "MODP_3072",
	GroupMODP4096:   "MODP_4096",
	GroupMODP6144:   "MODP_6144",
	GroupMODP8192:   "MODP_8192",
	GroupECP256:     "ECP_256",
	GroupECP384:     "ECP_384",
	GroupECP521:     "ECP_521",
	GroupCurve25519: "CURVE_25519",
	GroupCurve448:   "CURVE_448",
	GroupMLKEM512:   "ML_KEM_512",
	GroupMLKEM768:   "ML_KEM_768",
	GroupMLKEM1024:  "ML_KEM_1024",
}

var transformNames = map[TransformType]map[uint16]string{
	TransformENCR: {
		Encr3DES:             "3DES_CBC",
		EncrNULL:             "NULL",
		EncrAESCBC:           "AES_CBC",
		EncrAESCTR:           "AES_CTR",
		EncrAESCCM8:          "AES_CCM_8",
		EncrAESCCM12:         "AES_CCM_12",
		EncrAESCCM16:         "AES_CCM_16",
		EncrAESGCM8:          "AES_GCM_8",
		EncrAESGCM12:         "AES_GCM_12",
		EncrAESGCM16:         "AES_GCM_16",
		EncrChaCha20Poly1305: "CHACHA20_POLY1305",
	},
	TransformPRF: {
		PRFHMACMD5:    "PRF_HMAC_MD5",
		PRFHMACSHA1:   "PRF_HMAC_SHA1",
		PRFAESXCBC:    "PRF_AES128_XCBC",
		PRFHMACSHA256: "PRF_HMAC_SHA2_256",
		PRFHMACSHA384: "PRF_HMAC_SHA2_384",
		PRFHMACSHA512: "PRF_HMAC_SHA2_512",
		PRFAESCMAC:    "PRF_AES128_CMAC",
	},
	TransformINTEG: {
		IntegNone:       "NONE",
		IntegHMACMD5:    "HMAC_MD5_96",
		IntegHMACSHA1:   "HMAC_SHA1_96",
		IntegAESXCBC:    "AES_XCBC_96",
		IntegAESCMAC:    "AES_CMAC_96",
		IntegHMACSHA256: "HMAC_SHA2_256_128",
		IntegHMACSHA384: "HMAC_SHA2_384_192",
		IntegHMACSHA512: "HMAC_SHA2_512_256",
	},
	TransformKE:    groupNames,
	TransformADDKE: groupNames,
	TransformESN:   {ESNNo: "NO_EXT_SEQ", ESNYes: "EXT_SEQ"},
}
