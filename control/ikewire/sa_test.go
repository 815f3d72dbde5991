package ikewire

import (
	"bytes"
	"testing"
)

// A transform is understood if it has a key length or nothing; whatever else
// is kept as it came, so that it can be told from those and written again.
func TestTransformAttributes(t *testing.T) {
	for _, test := range []struct {
		name       string
		attributes string
		bits       uint16
		kept       bool
	}{
		{"none", "", 0, false},
		{"key length", "800e0100", 256, false},
		{"key length of zero", "800e0000", 0, true},
		{"key length in the long form", "000e0002 0100", 0, true},
		{"key length twice", "800e0080 800e0100", 0, true},
		{"unknown short one", "80ff0001", 0, true},
		{"key length and unknown long one", "800e0080 00ff0003 010203", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			attrs := unhex(test.attributes)
			transform := append([]byte{0, 0, 0, byte(8 + len(attrs)), 1, 0, 0, 12}, attrs...)
			raw := one(append([]byte{0, 0, 0, byte(8 + len(transform)), 1, 1, 0, 1}, transform...)...)
			ps, err := ParsePayloads(PayloadSA, raw)
			if err != nil {
				t.Fatal(err)
			}
			got := ps[0].(*SA).Proposals[0].Transforms[0]
			want := Transform{Type: TransformENCR, ID: EncrAESCBC, KeyBits: test.bits}
			if test.kept {
				want.Attributes = string(attrs)
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if _, out, err := AppendPayloads(nil, ps); err != nil || !bytes.Equal(out, raw) {
				t.Errorf("error %v, octets %x, want %x", err, out, raw)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		Transform{Type: TransformENCR, ID: EncrAESGCM16, KeyBits: 128}.String():     "AES_GCM_16_128",
		Transform{Type: TransformENCR, ID: EncrAESCBC, Attributes: "abcd"}.String(): "AES_CBC_WITH_ATTRIBUTES",
		Transform{Type: TransformPRF, ID: PRFHMACSHA256}.String():                   "PRF_HMAC_SHA2_256",
		Transform{Type: TransformINTEG, ID: IntegHMACSHA256}.String():               "HMAC_SHA2_256_128",
		Transform{Type: TransformKE, ID: GroupCurve25519}.String():                  "CURVE_25519",
		Transform{Type: TransformADDKE + 1, ID: GroupMLKEM768}.String():             "ML_KEM_768",
		Transform{Type: TransformADDKE + 1, ID: 999}.String():                       "ADDKE2_999",
		Transform{Type: TransformESN, ID: ESNNo}.String():                           "NO_EXT_SEQ",
		Transform{Type: 99, ID: 7}.String():                                         "TRANSFORM_99_7",
		(&Proposal{Protocol: ProtocolESP, Transforms: []Transform{
			{Type: TransformENCR, ID: EncrAESGCM16, KeyBits: 256}, {Type: TransformESN},
		}}).String(): "ESP:AES_GCM_16_256/NO_EXT_SEQ",
		PayloadEncrypted.String():  "SK",
		PayloadType(99).String():   "PAYLOAD_99",
		NotifyCookie.String():      "COOKIE",
		NotifyTSMaxQueue.String():  "TS_MAX_QUEUE",
		NotifyType(40000).String(): "NOTIFY_40000",
		IKESAInit.String():         "IKE_SA_INIT",
		ExchangeType(1).String():   "EXCHANGE_1",
		AuthSignature.String():     "SIGNATURE",
		AuthMethod(200).String():   "AUTH_METHOD_200",
		CFGReply.String():          "CFG_REPLY",
		ProtocolID(9).String():     "PROTOCOL_9",
		IDType(77).String():        "ID_77",
		(&ID{IDType: IDFQDN, Data: []byte("gw.example\n")}).String():  `gw.example\n`,
		(&ID{IDType: IDIPv4Addr, Data: []byte{10, 1, 0, 1}}).String(): "10.1.0.1",
		(&ID{IDType: IDIPv4Addr, Data: []byte{10}}).String():          "ID_IPV4_ADDR:0a",
		(&ID{IDType: IDDERASN1DN, Data: []byte{0x30, 0}}).String():    "ID_DER_ASN1_DN:3000",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if !NotifyTSUnacceptable.IsError() || NotifyInitialContact.IsError() {
		t.Error("errors and statuses mixed up")
	}
}
