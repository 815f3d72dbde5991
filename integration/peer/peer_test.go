package peer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// The instruments are tried on software that isn't ours, strongSwan on both
// ends, so that a scenario that fails accuses the gateway and not its harness.
//
//	dev1 10.1.0.2 -- 10.1.0.1 gw (strongSwan) 10.2.0.1 -- 10.2.0.2 lan
func TestInstrumentsBetweenTwoStrongSwans(t *testing.T) {
	top := netns.ForTest(t, netns.Options{})
	if err := peer.Available(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dev := top.Devices[0]
	ca := newCA(t)

	responder := start(ctx, t, top.Gateway)
	if err := responder.LoadText(ctx, responderConf, ca.files(t, "gw.example")); err != nil {
		t.Fatal(err)
	}
	if _, err := top.Gateway.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	client := start(ctx, t, dev.Namespace)
	wanted := netip.MustParseAddr("10.3.0.77")
	conn := peer.Connection{
		Files:        ca.files(t, "dev1.example"),
		Gateway:      netns.GatewayOutside,
		LocalID:      "dev1.example",
		IKEProposals: []string{"aes128gcm16-prfsha256-x25519"},
		ESPProposals: []string{"aes128gcm16"},
		VirtualIPs:   []netip.Addr{wanted},
		Remote:       []netip.Prefix{netns.Inside},
	}
	conn.RemoteID = "someone.else.example"
	if err := client.Load(ctx, conn); err != nil {
		t.Fatal(err)
	}
	if err := client.Connect(ctx, 10*time.Second); err == nil {
		t.Fatal("connected to a gateway of another name")
	}
	conn.RemoteID = ""
	if err := client.Load(ctx, conn); err != nil {
		t.Fatal(err)
	}
	pcap := filepath.Join(t.TempDir(), "outside.pcap")
	capture, err := traffic.StartCapture(top.Gateway, netns.OutsideLink, pcap, 128)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Stop() }) // asked for its error below
	if err := client.Connect(ctx, 10*time.Second); err != nil {
		t.Fatal(err)
	}

	sa, err := client.SA()
	if err != nil {
		t.Fatal(err)
	}
	if len(sa.VirtualIPs) != 1 || sa.VirtualIPs[0] != wanted {
		t.Errorf("virtual IPs %v, asked for %s", sa.VirtualIPs, wanted)
	}
	if want := "AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519"; sa.Algorithms != want {
		t.Errorf("IKE algorithms %s, want %s", sa.Algorithms, want)
	}
	if child := sa.Children[0]; child.Algorithms != "AES_GCM_16-128" || !child.Encap {
		t.Errorf("Child SA %+v, want AES_GCM_16-128 in UDP", child)
	}
	if _, err := traffic.Ping(ctx, dev.Namespace, wanted, netns.LANHost, 1000); err != nil {
		t.Error(err)
	}
	const size = 4 << 20
	up, err := traffic.TCP(ctx, dev.Namespace, top.LAN, netns.LANHost, size)
	if err != nil {
		t.Fatalf("up: %v", err)
	}
	if up.From != wanted {
		t.Errorf("the host inside saw %s, want the virtual IP %s", up.From, wanted)
	}
	if _, err := traffic.TCP(ctx, top.LAN, dev.Namespace, wanted, size); err != nil {
		t.Fatalf("down: %v", err)
	}
	if sa, err = client.SA(); err != nil || sa.Children[0].BytesIn < size || sa.Children[0].BytesOut < size {
		t.Errorf("the client counted %+v, %v; want %d octets each way", sa.Children, err, size)
	}
	if err := client.Disconnect(ctx); err != nil {
		t.Error(err)
	}
	if sas, err := client.SAs(); err != nil || len(sas) != 0 {
		t.Errorf("SAs after the end: %+v, %v", sas, err)
	}
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	checkCapture(t, pcap, dev.Address)
}

func checkCapture(t *testing.T, pcap string, device netip.Addr) {
	t.Helper()
	rec, err := traffic.CheckSequences(pcap)
	if err != nil {
		t.Fatal(err)
	}
	// 4 MiB in packets of at most 1,400 octets.
	if rec.SAs != 2 || rec.Packets[device] < 3000 || rec.Packets[netns.GatewayOutside] < 3000 {
		t.Errorf("recorded %+v", rec)
	}
	messages := 0
	err = traffic.ReadDatagrams(pcap, func(d traffic.Datagram) error {
		if m, ok := d.IKE(); ok {
			messages++
			if major := m[17] >> 4; major != 2 {
				t.Errorf("IKE version %d", major)
			}
		}
		return nil
	})
	// INIT, AUTH, DELETE with an answer each; large ones come in fragments.
	if err != nil || messages < 6 {
		t.Errorf("%d IKE messages, %v", messages, err)
	}
}

// A gateway that isn't there is an error within the time given for it, and the
// error carries the client's log.
func TestConnectWithoutGateway(t *testing.T) {
	top := netns.ForTest(t, netns.Options{})
	ctx := t.Context()
	client := start(ctx, t, top.Devices[0].Namespace)
	err := client.Load(ctx, peer.Connection{Files: newCA(t).files(t, "dev1.example"), Gateway: netns.GatewayOutside})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Connect(ctx, time.Second); err == nil || !strings.Contains(err.Error(), "initiating IKE_SA") {
		t.Errorf("error %v, want one with the log", err)
	}
	if _, err := client.VirtualIP(); err == nil {
		t.Error("a virtual IP without a gateway")
	}
}

func start(ctx context.Context, t *testing.T, ns *netns.Namespace) *peer.Charon {
	t.Helper()
	c, err := peer.Start(ctx, ns, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("charon in %s:\n%s", ns.Name(), c.LogTail(60))
		}
		if err := c.Stop(); err != nil {
			t.Errorf("stopping charon in %s: %v", ns.Name(), err)
		}
	})
	return c
}

const responderConf = `connections {
  gw {
    version = 2
    local_addrs = 10.1.0.1
    pools = devices
    local {
      auth = pubkey
      certs = own.pem
      id = gw.example
    }
    remote {
      auth = pubkey
    }
    children {
      net {
        local_ts = 10.2.0.0/24
      }
    }
  }
}
pools {
  devices {
    addrs = 10.3.0.77/32
  }
}
`

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newCA(t *testing.T) authority {
	t.Helper()
	ca := authority{key: newKey(t)}
	ca.cert = ca.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, ca.key.Public())
	return ca
}

func (a authority) files(t *testing.T, name string) peer.Files {
	t.Helper()
	key := newKey(t)
	cert := a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, key.Public())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return peer.Files{
		CA:   encode("CERTIFICATE", a.cert.Raw),
		Cert: encode("CERTIFICATE", cert.Raw),
		Key:  encode("PRIVATE KEY", der),
	}
}

func (a authority) issue(t *testing.T, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
