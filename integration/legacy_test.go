package integration

import (
	"strings"
	"testing"

	"github.com/roamgate/roamgate/integration/peer"
)

// What is old is off, each kind by a switch of its own: a device that has
// nothing better is refused with a log line that names the switch, and let in
// when it is on.
//
//	dev1 (strongSwan, one old algorithm) -- gw (gatewayd, legacy off, then on) -- lan
func TestLegacyIsRefusedByName(t *testing.T) {
	s := newScenario(t, options{rsa: true})
	id := s.root.device(t, "dev1", keyRSA(t))
	client := s.client(t, s.top.Devices[0], id)
	for _, c := range []struct {
		name, ike, esp, legacy string
		settings               peer.Settings
	}{
		{name: "MODP-1024, as Windows is installed", ike: "aes256-sha256-modp1024", esp: "aes256-sha256", legacy: "modp_1024"},
		{name: "3DES for IKE", ike: "3des-sha256-modp2048", esp: "aes256-sha256", legacy: "triple_des"},
		{name: "3DES for ESP", ike: "aes256-sha256-modp2048", esp: "3des-sha256", legacy: "triple_des"},
		{name: "HMAC-SHA1 for IKE", ike: "aes256-sha1-modp2048", esp: "aes256-sha256", legacy: "hmac_sha1"},
		{name: "HMAC-SHA1 for ESP", ike: "aes256-sha256-modp2048", esp: "aes256-sha1", legacy: "hmac_sha1"},
		{
			name: "RSA with SHA-1", ike: "aes256-sha256-modp2048", esp: "aes256-sha256", legacy: "sha1_signatures",
			settings: peer.Settings{NoSignatureAuth: true},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := client.Set(s.ctx, c.settings); err != nil {
				t.Fatal(err)
			}
			s.load(t, client, id, proposals(c.ike, c.esp))
			s.conf.Legacy = nil
			s.reload(t)
			logged := len(s.gw.Log())
			if err := client.Connect(s.ctx, patience); err == nil {
				t.Error("connected")
			}
			if log := s.gw.Log()[logged:]; !strings.Contains(log, "legacy."+c.legacy) {
				t.Errorf("the log doesn't name legacy.%s:\n%s", c.legacy, log)
			}
			// Refused for its Child SA, strongSwan keeps its IKE SA.
			if sas, err := client.SAs(); err != nil {
				t.Fatal(err)
			} else if len(sas) > 0 {
				if err := client.Disconnect(s.ctx); err != nil {
					t.Fatal(err)
				}
			}
			s.conf.Legacy = []string{c.legacy}
			s.reload(t)
			s.ping(t, client, s.connect(t, client))
			if err := client.Disconnect(s.ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}
