package integration

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// hostRoutes is the section by which a gateway offers them.
const hostRoutes = "host_routes: {table: 1009, protocol: 201}"

// birdAtGateway learns the host routes and announces them by BGP, as README.md
// shows it.
const birdAtGateway = `
log stderr all;
router id %[1]s;
protocol device { }
protocol kernel devices {
  kernel table 1009;
  learn;
  ipv4 { import where krt_source = 201; export none; };
}
protocol bgp inside {
  local %[1]s as 65001;
  neighbor %[2]s as 65000;
  connect delay time 1;
  connect retry time 1;
  ipv4 { import none; export where krt_source = 201; };
}
`

// birdInside puts what the gateways announce into the host's own table.
const birdInside = `
log stderr all;
router id 10.2.0.2;
protocol device { }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
template bgp roamgate {
  local as 65000;
  connect delay time 1;
  connect retry time 1;
  ipv4 { import all; export none; };
}
protocol bgp gw1 from roamgate { neighbor %s as 65001; }
protocol bgp gw2 from roamgate { neighbor %s as 65001; }
`

// bird runs in a namespace until the test ends.
func (s *scenario) bird(t *testing.T, at *netns.Namespace, conf string) {
	t.Helper()
	dir := shortDir(t)
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	c := exec.Command("bird", "-f", "-c", file, "-s", filepath.Join(dir, "control"), "-P", filepath.Join(dir, "pid"))
	c.Stdout, c.Stderr = log, log
	p, err := at.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if said, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("bird of %s:\n%s", at.Name(), said)
		}
	})
}

// routeTo is the host route to an address in a namespace's main table, empty where
// there is none.
func (s *scenario) routeTo(t *testing.T, at *netns.Namespace, a netip.Addr) string {
	t.Helper()
	out, err := at.Run(s.ctx, exec.Command("ip", "route", "show", "exact", a.String()+"/32"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A device has the same address at two gateways. Hosts inside send what is for it
// to the first one, until bird tells them that it is connected elsewhere.
//
//	dev1 (simulated) --------- gw (gatewayd, bird) 10.2.0.1 -- 10.2.0.2 lan (bird)
//	dev2 (gatewayd, bird) -/   10.2.1.1 ---------------------- 10.2.1.2 /
func TestHostRoutesByBird(t *testing.T) {
	halves := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/25"), netip.MustParsePrefix("10.9.0.128/25")}
	var keys string
	share := func(neighbour netip.Prefix) string {
		return "    neighbour_pools: [" + neighbour.String() + "]\n  resumption: {key_file: " + keys + "}\n  tunnel: {" + hostRoutes + "}\n"
	}
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		keys = filepath.Join(s.dir, "shared.keys")
		s.conf.Pools, s.conf.Extra = halves[:1], share(halves[1])
	}})
	there, inside := s.top.Devices[1], netip.MustParsePrefix("10.2.1.1/24")
	if err := netns.Connect(there.Namespace, "inside0", inside, s.top.LAN, "second0", netip.MustParsePrefix("10.2.1.2/24")); err != nil {
		t.Fatal(err)
	}
	if err := there.AddRoute(netns.Inside, netip.MustParseAddr("10.2.1.2")); err != nil {
		t.Fatal(err)
	}
	conf := s.conf
	conf.Pools, conf.Extra = halves[1:], share(halves[0])
	s.secondGateway(t, there, "inside0", conf)
	s.bird(t, s.top.Gateway, fmt.Sprintf(birdAtGateway, netns.GatewayInside, netns.LANHost))
	s.bird(t, there.Namespace, fmt.Sprintf(birdAtGateway, inside.Addr(), "10.2.1.2"))
	s.bird(t, s.top.LAN, fmt.Sprintf(birdInside, netns.GatewayInside, inside.Addr()))

	dev := s.top.Devices[0]
	id := s.root.device(t, "dev1", keyECDSA(t))
	via := func(address, gateway netip.Addr) {
		t.Helper()
		s.eventually(t, fmt.Sprintf("the host inside to send %s by way of %s", address, gateway), func() (bool, string) {
			route := s.routeTo(t, s.top.LAN, address)
			return strings.Contains(route, "via "+gateway.String()+" ") && strings.Contains(route, "proto bird"), route
		})
	}
	d, address := s.simulate(t, s.ticketed(dev, id, nil))
	via(address, netns.GatewayInside)
	ticket := s.ticket(t, d)
	s.gw.Kill()
	d.Vanish()

	began := time.Now()
	d, again := s.simulate(t, dialing(s.ticketed(dev, id, ticket), there))
	if again != address {
		t.Errorf("%s at the second gateway, %s at the first", again, address)
	}
	via(address, inside.Addr())
	t.Logf("from the connection to the route inside: %v", time.Since(began).Round(time.Millisecond))
	if _, err := d.Ping(s.ctx, netns.LANHost, make([]byte, 56)); err != nil {
		t.Errorf("no echo by way of the second gateway: %v", err)
	}
	d.Vanish()
	s.start()
	d, again = s.simulate(t, s.ticketed(dev, id, nil))
	via(again, netns.GatewayInside)
	if err := d.Close(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the route to go with the device", func() (bool, string) {
		route := s.routeTo(t, s.top.LAN, again)
		return !strings.Contains(route, "via "+netns.GatewayInside.String()), route
	})
}
