package integration

import (
	"crypto"
	"testing"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// A strongSwan client moves 100 MB of TCP each way through the tunnel, and
// what arrives is what was sent, whatever the kind of certificate on either
// side, the group and the transforms. The host inside sees the virtual IP.
//
//	dev1 (strongSwan) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
//	     10.9.0.x .......................................................
func TestContentArrivesBothWays(t *testing.T) {
	size := transferSize(100e6)
	for _, c := range []struct {
		name     string
		rsa      bool // the gateway's certificate
		key      func(*testing.T) crypto.Signer
		ike, esp string // what the client offers
		wantIKE  string
		wantESP  string
	}{
		{
			name: "ECDSA, GCM-128, x25519", key: keyECDSA,
			ike: "aes128gcm16-prfsha256-x25519", wantIKE: "AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519",
			esp: "aes128gcm16", wantESP: "AES_GCM_16-128",
		},
		{
			name: "RSA, CBC-128 with SHA-256, ecp256", rsa: true, key: keyRSA,
			ike: "aes128-sha256-prfsha256-ecp256", wantIKE: "AES_CBC-128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_256",
			esp: "aes128-sha256", wantESP: "AES_CBC-128/HMAC_SHA2_256_128",
		},
		{
			name: "P-384, GCM-256, ecp384", key: keyP384,
			ike: "aes256gcm16-prfsha384-ecp384", wantIKE: "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384",
			esp: "aes256gcm16", wantESP: "AES_GCM_16-256",
		},
		{
			name: "RSA device at an ECDSA gateway, CBC-256", key: keyRSA,
			ike: "aes256-sha256-prfsha256-x25519", wantIKE: "AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/CURVE_25519",
			esp: "aes256-sha256", wantESP: "AES_CBC-256/HMAC_SHA2_256_128",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScenario(t, options{rsa: c.rsa})
			dev := s.top.Devices[0]
			recorded := s.record(t, 96)
			client := s.client(t, dev, s.root.device(t, "dev1", c.key(t)), proposals(c.ike, c.esp))
			address := s.connect(t, client)
			if !pool.Contains(address) {
				t.Fatalf("virtual IP %s is not of the pool %s", address, pool)
			}
			s.ping(t, client, address)

			up, err := traffic.TCP(s.ctx, dev.Namespace, s.top.LAN, netns.LANHost, size)
			if err != nil {
				t.Fatalf("up: %v", err)
			}
			if up.From != address {
				t.Errorf("the host inside saw %s, want the virtual IP %s", up.From, address)
			}
			down, err := traffic.TCP(s.ctx, s.top.LAN, dev.Namespace, address, size)
			if err != nil {
				t.Fatalf("down: %v", err)
			}
			t.Logf("up %.0f Mb/s, down %.0f Mb/s", up.BitsPerSecond()/1e6, down.BitsPerSecond()/1e6)

			sa, err := client.SA()
			if err != nil {
				t.Fatal(err)
			}
			if sa.Algorithms != c.wantIKE || sa.Children[0].Algorithms != c.wantESP {
				t.Errorf("algorithms %s and %s, want %s and %s", sa.Algorithms, sa.Children[0].Algorithms, c.wantIKE, c.wantESP)
			}
			sessions := s.sessions(t)
			if len(sessions) != 1 || sessions[0].Device != "dev1" || sessions[0].BytesIn < uint64(size) || sessions[0].BytesOut < uint64(size) {
				t.Errorf("sessions %+v, want one of dev1 with %d octets each way", sessions, size)
			}
			recorded()
		})
	}
}

// A client that names no gateway (no IDr, as Windows does) gets in; one that
// wants another gateway than this one doesn't stay.
func TestIdentityOfTheGateway(t *testing.T) {
	s := newScenario(t, options{})
	id := s.root.device(t, "dev1", keyECDSA(t))
	client := s.client(t, s.top.Devices[0], id, func(c *peer.Connection) { c.RemoteID = "" })
	s.ping(t, client, s.connect(t, client))
	if err := client.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.load(t, client, id, func(c *peer.Connection) { c.RemoteID = "other.example" })
	if err := client.Connect(s.ctx, patience); err == nil {
		t.Error("a client that wants another gateway connected")
	}
}

// While a company moves from one root to another, the gateway has a certificate
// of each and shows a client that of the root which it names (RFC 7296 section
// 3.7).
//
//	dev1 (strongSwan, trusts one root) -- gw (gatewayd, certificates of two roots) -- lan
func TestClientsOfTwoRoots(t *testing.T) {
	var next authority
	s := newScenario(t, options{configure: func(s *scenario) {
		next = newAuthority(t, "next root")
		s.credential("next", next.gateway(t, keyECDSA(t)))
		s.write("next.root.crt", certPEM(next.cert))
		s.conf.MoreCredentials = []gateway.Credential{{Certificate: "next.crt", Key: "next.key"}}
		s.conf.Roots = append(s.conf.Roots, "next.root.crt")
	}})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	for _, root := range []authority{s.root, next} {
		id := root.device(t, "dev1", keyECDSA(t))
		s.load(t, client, id, func(c *peer.Connection) { c.Files = id.files(t, root) })
		s.ping(t, client, s.connect(t, client))
		if err := client.Disconnect(s.ctx); err != nil {
			t.Fatal(err)
		}
	}
}
