package integration

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/integration/peer"
)

// A gateway that is emptied sends its devices to another one, which is
// strongSwan here: those that come at once, and the one that it has, by order.
// A client that doesn't follow is served.
//
//	dev1 (strongSwan) ---------- net -- gw (gatewayd) -- lan
//	dev2 (strongSwan, gateway) -/
func TestRedirect(t *testing.T) {
	s := newScenario(t, options{devices: 2})
	there := s.top.Devices[1]
	other, err := peer.Start(s.ctx, there.Namespace, shortDir(t), clientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Vanish)
	// It is a way to the networks inside, by an address there.
	if err := there.AddAddress("lo", netip.MustParsePrefix("10.2.0.9/32")); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(otherGateway, there.Address, gatewayID)
	if err := other.LoadText(s.ctx, conf, s.root.gateway(t, keyECDSA(t)).files(t, s.root)); err != nil {
		t.Fatal(err)
	}
	id := s.root.device(t, "dev1", keyECDSA(t))
	client := s.client(t, s.top.Devices[0], id)
	arrived := func() (bool, string) {
		sas, err := other.SAs()
		return err == nil && len(sas) == 1 && sas[0].State == "ESTABLISHED", spell(sas)
	}

	s.connect(t, client)
	if _, err := s.gw.Command(s.ctx, "session", "redirect", "dev1", "--to", there.Address.String()); err != nil {
		t.Errorf("redirecting a session: %v", err)
	} else {
		s.eventually(t, "the device that was sent away to arrive", arrived)
		s.eventually(t, "its session to end", func() (bool, string) {
			sessions := s.sessions(t)
			return len(sessions) == 0, spell(sessions)
		})
	}
	if err := client.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}

	s.conf.RedirectTo = there.Address.String()
	s.reload(t)
	if err := client.Connect(s.ctx, patience); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the device to arrive at the other gateway", arrived)
	if sessions := s.sessions(t); len(sessions) != 0 {
		t.Errorf("sessions %+v of a device that was sent away", sessions)
	}
	if err := client.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}

	// Others are meant. (dev1 itself can't be shown: strongSwan 5.9.8 takes the
	// REDIRECT of an IKE_AUTH response and dies of a segmentation fault while it
	// begins anew; the IKE machine's own transcripts have that case.)
	s.conf.RedirectDevices = []string{"somebody-else"}
	s.reload(t)
	s.ping(t, client, s.connect(t, client))
	if err := client.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.conf.RedirectDevices = nil
	s.reload(t)

	if err := client.Set(s.ctx, peer.Settings{IgnoreRedirects: true}); err != nil {
		t.Fatal(err)
	}
	s.ping(t, client, s.connect(t, client))
	if sessions := s.sessions(t); len(sessions) != 1 || sessions[0].Remote.Addr() != s.top.Devices[0].Address {
		t.Errorf("sessions %+v, want that of the client that doesn't follow", sessions)
	}
}

// otherGateway is strongSwan as a gateway at an address, with an identity.
const otherGateway = `connections {
  gw {
    version = 2
    local_addrs = %s
    pools = devices
    local {
      auth = pubkey
      certs = own.pem
      id = %s
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
    addrs = 10.11.0.0/24
  }
}
`
