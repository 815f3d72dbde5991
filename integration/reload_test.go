package integration

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/integration/peer"
)

// The gateway gets a new certificate, another pool, other name servers,
// networks and algorithms, all while a device streams: its session goes on as
// it is, and the next device gets all that is new.
//
//	dev1 (strongSwan, before) -- net -- gw (gatewayd, reloaded) -- lan
//	dev2 (strongSwan, after)  -/
func TestReloadDropsNoSession(t *testing.T) {
	dns := []netip.Addr{netip.MustParseAddr("10.2.0.53"), netip.MustParseAddr("10.2.0.54")}
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		s.conf.DNS = dns[:1]
		s.conf.IKE = []string{"aes128gcm16-prfsha256-x25519"}
		s.conf.ESP = []string{"aes128gcm16"}
	}})
	whole := func(c *peer.Connection) { c.Remote = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }
	one := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)), whole)
	first := s.connect(t, one)
	session := s.sessions(t)[0].ID
	finish := s.streams(t, one.Namespace(), first)
	servers(t, one, dns[0])

	key := keyRSA(t)
	s.credential("new", s.root.gateway(t, key, func(c *x509.Certificate) { c.Subject.CommonName = "the new one" }))
	s.conf.Certificate, s.conf.Key = "new.crt", "new.key"
	pools := []netip.Prefix{netip.MustParsePrefix("10.10.0.0/24")}
	s.conf.Pools, s.conf.DNS = pools, dns[1:]
	s.conf.Networks = []netip.Prefix{netip.MustParsePrefix("10.2.0.0/25")}
	s.conf.IKE, s.conf.ESP = []string{"aes256gcm16-prfsha384-ecp384"}, []string{"aes256gcm16"}
	s.reload(t)

	two := s.client(t, s.top.Devices[1], s.root.device(t, "dev2", keyECDSA(t)), whole)
	second := s.connect(t, two)
	s.ping(t, two, second)
	if !pools[0].Contains(second) {
		t.Errorf("virtual IP %s is not of the new pool %s", second, pools[0])
	}
	servers(t, two, dns[1])
	sa, err := two.SA()
	if err != nil || sa.Algorithms != "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384" || sa.Children[0].Algorithms != "AES_GCM_16-256" ||
		!slices.Equal(sa.Children[0].Remote, []string{"10.2.0.0/25"}) {
		t.Errorf("SA %+v, %v; want the new algorithms and network", sa, err)
	}
	if !strings.Contains(two.Log(), `received end entity cert "CN=the new one"`) {
		t.Errorf("the client didn't see the new certificate:\n%s", tail(two.Log(), 40))
	}
	finish()
	if sessions := s.sessions(t); len(sessions) != 2 || sessions[0].ID != session {
		t.Errorf("sessions %+v, want two, the first %s", sessions, session)
	}
	s.ping(t, one, first)
	status, err := s.gw.Status(s.ctx)
	if err != nil || len(status.NeedRestart) != 0 {
		t.Errorf("status %+v, %v; want nothing that needs a restart", status, err)
	}
}

// servers compares the name servers that a client was told.
func servers(t *testing.T, c *peer.Charon, want ...netip.Addr) {
	t.Helper()
	if got, err := c.Nameservers(); err != nil || !slices.Equal(got, want) {
		t.Errorf("name servers %v, %v; want %v", got, err, want)
	}
}
