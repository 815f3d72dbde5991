package device

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
)

// initRequest is IKE_SA_INIT as the client of a profile sends it, with all that
// it offers, whether our own initiator knows it or not.
func initRequest(t *testing.T, p *Profile) []byte {
	t.Helper()
	offer, err := p.Offer()
	if err != nil {
		t.Fatal(err)
	}
	group := must(p.Suites())[0].Group
	kx, err := p.Legacy.NewKeyExchange(group, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	detect := func(typ ikewire.NotifyType) ikewire.Payload {
		return &ikewire.Notify{NotifyType: typ, Data: make([]byte, 20)} // behind some NAT
	}
	payloads := []ikewire.Payload{
		offer, &ikewire.KE{Group: group, Data: kx.Public()}, &ikewire.Nonce{Data: make([]byte, 32)},
		detect(ikewire.NotifyNATDetectionSourceIP), detect(ikewire.NotifyNATDetectionDestinationIP),
	}
	for _, id := range p.VendorIDs {
		payloads = append(payloads, &ikewire.Vendor{Data: id})
	}
	raw, err := (&ikewire.Message{
		Header: ikewire.Header{
			InitiatorSPI: 1, Version: ikewire.Version2, Exchange: ikewire.IKESAInit, Flags: ikewire.FlagInitiator,
		},
		Payloads: payloads,
	}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// zeros is a source of numbers, not of randomness: the same each time.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i + 1)
	}
	return len(b), nil
}

// TestWholeOffers: what a gateway makes of the offer that is documented.
func TestWholeOffers(t *testing.T) {
	old := ikecrypto.Suite{
		Encryption: ikewire.EncrAESCBC, KeyBits: 256, Integrity: ikewire.IntegHMACSHA256, PRF: ikewire.PRFHMACSHA256,
		Group: ikewire.GroupMODP1024, Allow: ikecrypto.Legacy{MODP1024: true},
	}
	for _, c := range []struct {
		profile *Profile
		legacy  bool // the gateway allows MODP-1024
		answer  string
		said    []string // to the administrator
	}{
		{Windows10Default, false, "NO_PROPOSAL_CHOSEN", []string{"no_proposal_chosen", "3DES_CBC", "MODP_1024"}},
		{Windows11Default, false, "NO_PROPOSAL_CHOSEN", []string{"no_proposal_chosen", "3DES_CBC", "MODP_1024"}},
		{Windows10Default, true, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_1024", nil},
		{Windows10Profile, false, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_384", nil},
		{Windows10ProfileMODP2048, false, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", nil},
		{AppleIOS, false, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", nil},
		{Android, false, "INVALID_KE_PAYLOAD", []string{"invalid_ke_payload", "group 16, want 14"}},
		{StrongSwan, false, "INVALID_KE_PAYLOAD", []string{"invalid_ke_payload", "group 19, want 20"}},
	} {
		cfg := &ike.Config{ForceUDP: true, HalfOpen: time.Minute, Rand: zeros{}}
		cfg.Suites, cfg.ESP = offers(modern, lanESP)
		if c.legacy {
			cfg.Suites = append(cfg.Suites, old)
		}
		answer, said := respond(t, cfg, initRequest(t, c.profile))
		if answer != c.answer || (said == "") != (c.said == nil) {
			t.Errorf("%s: %s, %q; want %s", c.profile.Name, answer, said, c.answer)
		}
		for _, word := range c.said {
			if !strings.Contains(said, word) {
				t.Errorf("%s: the gateway says %q, want %q in it", c.profile.Name, said, word)
			}
		}
	}
}

// respond gives a request to a responder and tells its answer: the notification
// or the suite, and what it says if it ends.
func respond(t *testing.T, cfg *ike.Config, raw []byte) (answer, said string) {
	t.Helper()
	m := ike.NewResponder(cfg, 1, 2)
	in := []ike.Input{ike.Message{Data: raw, Local: gwIKE, Remote: netip.MustParseAddrPort("192.0.2.7:1024")}}
	for len(in) > 0 {
		next := in[0]
		in = in[1:]
		for _, o := range m.Step(time.Now(), next) {
			switch o := o.(type) {
			case ike.Work:
				in = append(in, ike.WorkDone{ID: o.ID, Result: o.Do()})
			case ike.Closed:
				said = fmt.Sprint(o.Reason, " ", o.Detail)
			case ike.Send:
				msg, err := ikewire.Parse(o.Data)
				if err != nil {
					t.Fatal(err)
				}
				answer = describe(msg.Payloads)
			}
		}
	}
	return answer, said
}

func describe(payloads []ikewire.Payload) string {
	sa, ok := ikewire.Find[*ikewire.SA](payloads)
	if !ok {
		n, _ := ikewire.Find[*ikewire.Notify](payloads)
		return n.NotifyType.String()
	}
	byType := map[ikewire.TransformType]string{}
	for _, t := range sa.Proposals[0].Transforms {
		byType[t.Type] = t.String()
	}
	return strings.Join([]string{
		byType[ikewire.TransformENCR], byType[ikewire.TransformINTEG], byType[ikewire.TransformPRF], byType[ikewire.TransformKE],
	}, "/")
}

// TestOffers: sizes and orders that are known of the clients.
func TestOffers(t *testing.T) {
	for _, c := range []struct {
		profile           *Profile
		proposals, suites int
		first             string
	}{
		{Windows10Default, 12, 12, "3DES_CBC/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1024"},
		{Windows11Default, 18, 18, "3DES_CBC/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1024"},
		{Windows10Profile, 1, 1, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_384"},
		{Windows10ProfileMODP2048, 1, 1, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048"},
		{AppleIOS, 1, 1, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048"},
		{Android, 2, 60, "AES_CBC_256/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512/MODP_4096"},
		{StrongSwan, 2, 60, "AES_CBC_128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_256"},
	} {
		suites := must(c.profile.Suites())
		first := suites[0]
		first.Allow = ikecrypto.Legacy{}
		name := describe([]ikewire.Payload{&ikewire.SA{Proposals: []ikewire.Proposal{{Transforms: suiteTransforms(first)}}}})
		if n := len(must(c.profile.Offer()).Proposals); n != c.proposals || len(suites) != c.suites || name != c.first {
			t.Errorf("%s: %d proposals, %d suites, first %s; want %d, %d, %s", c.profile.Name, n, len(suites), name, c.proposals, c.suites, c.first)
		}
		if c.profile.Source == "" {
			t.Errorf("%s: where is it from?", c.profile.Name)
		}
	}
	if len(Profiles()) != 7 {
		t.Errorf("%d profiles", len(Profiles()))
	}
}

// TestWindowsVendorIDs are hashes of what they say.
func TestWindowsVendorIDs(t *testing.T) {
	for i, text := range []string{"MS NT5 ISAKMPOAKLEY", "MS-Negotiation Discovery Capable", "Vid-Initial-Contact"} {
		if sum := md5.Sum([]byte(text)); string(windowsVendorIDs[i][:16]) != string(sum[:]) {
			t.Errorf("%s: %x, want %x", text, windowsVendorIDs[i], sum)
		}
	}
	if v := binary.BigEndian.Uint32(windowsVendorIDs[0][16:]); v != 9 {
		t.Errorf("version %d", v)
	}
}
