package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
)

// Session resumption (RFC 5723) with a real gateway and the simulated device.
// strongSwan 5.9.8 doesn't know it; that what is said is well formed is tshark's
// word.

// ticketed is a device that asks for tickets, and comes by one unless it is nil.
func (s *scenario) ticketed(dev netns.Device, id identity, t *ike.Ticket) device.Config {
	cfg := s.simulatedConfig(dev, id)
	cfg.Profile = device.StrongSwan
	cfg.Tickets, cfg.Ticket = true, t
	return cfg
}

// publicKeyWork is how many computations by public keys the gateway did.
func (s *scenario) publicKeyWork(t *testing.T) (n float64) {
	t.Helper()
	for _, kind := range []string{"key exchange", "verify", "sign"} {
		n += s.metric(t, `public_key_work_total{kind="`+kind+`"}`)
	}
	return n
}

// refused is how many tickets were, for a reason.
func (s *scenario) refused(t *testing.T, reason string) uint64 {
	t.Helper()
	n, err := s.gw.Dropped(s.ctx, "ticket", reason)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// resume comes back by a ticket and takes the new one.
func (s *scenario) resume(t *testing.T, dev netns.Device, id identity, by *ike.Ticket) (*device.Device, netip.Addr, *ike.Ticket) {
	t.Helper()
	d, address := s.simulate(t, s.ticketed(dev, id, by))
	if i := d.Info(); i.TicketRefused || !i.Summary.Resumed {
		t.Errorf("the session was not resumed: %+v", i)
	}
	return d, address, s.ticket(t, d)
}

func (s *scenario) ticket(t *testing.T, d *device.Device) *ike.Ticket {
	t.Helper()
	ticket := d.Ticket()
	if ticket == nil {
		t.Fatal("no ticket")
	}
	return ticket
}

// A device comes back by its ticket: with its address, without public keys, and
// instead of its session before. A ticket that was used, forged or stolen is
// refused, as are those of devices that are not admitted any more, and those
// who should be let in connect in full. After a crash a ticket from before
// works.
//
//	dev1, dev2 (simulated) -- [capture] gw (gatewayd) -- lan
func TestResumption(t *testing.T) {
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) { s.conf.KeyLog = "keys" }})
	recorded := s.record(t, 0)
	dev := s.top.Devices[0]
	id := s.root.device(t, "dev1", keyECDSA(t))
	d, address := s.simulate(t, s.ticketed(dev, id, nil))
	first := s.ticket(t, d)
	s.pingsThrough(t, d)
	d.Vanish()

	work := s.publicKeyWork(t)
	if work == 0 {
		t.Error("a full handshake did no work by public keys")
	}
	d, again, second := s.resume(t, dev, id, first)
	s.pingsThrough(t, d)
	if n := s.publicKeyWork(t) - work; n != 0 {
		t.Errorf("resuming took %v computations by public keys", n)
	}
	if again != address {
		t.Errorf("virtual IP %s after resuming, %s before", again, address)
	}
	s.eventually(t, "the session before to be replaced", func() (bool, string) {
		sessions := s.sessions(t)
		return len(sessions) == 1 && sessions[0].Resumed && sessions[0].VirtualIPs[0] == address, spell(sessions)
	})
	d.Vanish()

	// Used before.
	d, again = s.simulate(t, s.ticketed(dev, id, first))
	if !d.Info().TicketRefused || d.Info().Summary.Resumed || again != address || s.refused(t, "reused") == 0 { // what is repeated is refused again
		t.Errorf("a ticket that was used: %+v, refused %d times", d.Info(), s.refused(t, "reused"))
	}
	third := s.ticket(t, d)
	d.Vanish()
	// Forged.
	forged := *second
	forged.Opaque = append([]byte(nil), second.Opaque...)
	forged.Opaque[len(forged.Opaque)-1] ^= 1
	d, _ = s.simulate(t, s.ticketed(dev, id, &forged))
	if !d.Info().TicketRefused || s.refused(t, "forged") == 0 {
		t.Errorf("a forged ticket: %+v, refused %d times", d.Info(), s.refused(t, "forged"))
	}
	d.Vanish()
	// Another device has seen the ticket on the wire. What it says is nothing
	// that the gateway can read, and the ticket is as good as before.
	thief := s.root.device(t, "dev2", keyECDSA(t))
	stolen := *third
	stolen.SKd = make([]byte, len(third.SKd))
	_, _ = rand.Read(stolen.SKd)
	s.fails(t, s.ticketed(s.top.Devices[1], thief, &stolen))
	if s.metric(t, `ike_notes_total{note="integrity"}`) == 0 {
		t.Error("a stolen ticket left no trace")
	}
	// It has the keys, too, but says who it is.
	liar := *third
	liar.OwnID = &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte("dev2")}
	s.fails(t, s.ticketed(s.top.Devices[1], thief, &liar))
	if n := s.metric(t, `closed_total{reason="ticket_identity"}`); n != 1 {
		t.Errorf("%v sessions ended for the identity of the ticket, want 1", n)
	}
	d, _, fourth := s.resume(t, dev, id, third)
	d.Vanish()

	// A crash.
	s.gw.Kill()
	s.start()
	d, again, fifth := s.resume(t, dev, id, fourth)
	if again != address {
		t.Errorf("virtual IP %s after a crash, %s before", again, address)
	}
	d.Vanish()
	// Which tickets were used is forgotten by then: each works once more, and not
	// twice.
	d, _, _ = s.resume(t, dev, id, third)
	d.Vanish()
	d, _ = s.simulate(t, s.ticketed(dev, id, third))
	if !d.Info().TicketRefused {
		t.Error("a ticket worked twice in one life of the gateway")
	}
	sixth := s.ticket(t, d)

	// Authorisations change.
	for _, change := range []struct {
		reason string
		change func(c *gateway.Config)
		by     *ike.Ticket
	}{
		{"barred", func(c *gateway.Config) { c.Barred = []string{"dev1"} }, fifth},
		{"wrong_instance", func(c *gateway.Config) { c.InstanceOIDs = []string{"1.3.6.1.4.1.32473.99"} }, sixth},
	} {
		good := s.conf
		change.change(&s.conf)
		s.reload(t)
		s.refuses(t, s.ticketed(dev, id, change.by))
		if n := s.metric(t, `refused_total{reason="`+change.reason+`"}`); n < 2 {
			t.Errorf("%s: refused %v times, want the ticket and the full handshake", change.reason, n)
		}
		s.conf = good
		s.reload(t)
	}
	if n := s.refused(t, "not_admitted"); n < 2 {
		t.Errorf("%d tickets of devices that aren't admitted, want 2 or more", n)
	}

	// What was said is well formed, and where it should be; the thief's keys are
	// not those of the log.
	pcap, keys := recorded(), filepath.Join(s.dir, "keys")
	if bad := tshark(s.ctx, t, pcap, keys, "(_ws.malformed || _ws.expert.severity == error) && !(ip.addr == "+s.top.Devices[1].Address.String()+")"); bad != "" {
		t.Errorf("malformed:\n%s", bad)
	}
	for what, filter := range map[string]string{
		"IKE_SESSION_RESUME":         "isakmp.exchangetype == 38",
		"TICKET_OPAQUE":              "isakmp.exchangetype == 38 && isakmp.notify.msgtype == 16413",
		"TICKET_NACK":                "isakmp.exchangetype == 38 && isakmp.notify.msgtype == 16412",
		"TICKET_REQUEST in IKE_AUTH": "isakmp.exchangetype == 35 && isakmp.notify.msgtype == 16410",
		"TICKET_LT_OPAQUE":           "isakmp.exchangetype == 35 && isakmp.notify.msgtype == 16409",
	} {
		if tshark(s.ctx, t, pcap, keys, filter, "frame.number") == "" {
			t.Errorf("tshark finds no %s", what)
		}
	}
}

// fails unless a device doesn't come up: it is refused, or gets no answer for a
// while.
func (s *scenario) fails(t *testing.T, cfg device.Config) {
	t.Helper()
	if err := s.comes(t, cfg, 3*time.Second); !errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(*device.ClosedError)) {
		t.Errorf("a device that shouldn't get in: %v", err)
	}
}

// refuses: the gateway tells a device that it doesn't get in.
func (s *scenario) refuses(t *testing.T, cfg device.Config) {
	t.Helper()
	if err := s.comes(t, cfg, 20*time.Second); !errors.As(err, new(*device.ClosedError)) {
		t.Errorf("a device that is to be refused: %v", err)
	}
}

// comes to the gateway, and returns why it didn't get in.
func (s *scenario) comes(t *testing.T, cfg device.Config, patience time.Duration) error {
	t.Helper()
	d, err := device.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Vanish()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	info, err := d.Connect(ctx)
	if err == nil {
		t.Errorf("a device got in that shouldn't: %+v", info)
	}
	return err
}

// Two gateways share ticket keys; each hands out a half of the network and names
// the other's half. The first one dies, and its device goes on at the second
// with the same address.
//
//	dev1 (simulated) ------------- gw (gatewayd, killed) -- lan
//	dev2 (gatewayd, inside0) -/
func TestResumeAtTheSecondGateway(t *testing.T) {
	halves := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/25"), netip.MustParsePrefix("10.9.0.128/25")}
	var keys string
	share := func(neighbour netip.Prefix) string {
		return "    neighbour_pools: [" + neighbour.String() + "]\n  resumption: {key_file: " + keys + "}\n"
	}
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		keys = filepath.Join(s.dir, "shared.keys")
		s.conf.Pools, s.conf.Extra = halves[:1], share(halves[1])
	}})
	there := s.top.Devices[1]
	inside := netip.MustParseAddr("10.2.0.9")
	for _, command := range [][]string{
		{"ip", "link", "add", "inside0", "type", "veth", "peer", "name", "inside1"},
		{"ip", "link", "set", "inside0", "up"}, {"ip", "link", "set", "inside1", "up"},
		{"ip", "address", "add", inside.String() + "/24", "dev", "inside0"},
	} {
		if _, err := there.Run(s.ctx, exec.Command(command[0], command[1:]...)); err != nil {
			t.Fatal(err)
		}
	}
	conf := s.conf
	conf.Pools, conf.Extra = halves[1:], share(halves[0])
	s.secondGateway(t, there, "inside0", conf)

	dev := s.top.Devices[0]
	id := s.root.device(t, "dev1", keyECDSA(t))
	d, address := s.simulate(t, s.ticketed(dev, id, nil))
	ticket := s.ticket(t, d)
	s.gw.Kill()
	d.Vanish()

	elsewhere := func(by *ike.Ticket) device.Config { return dialing(s.ticketed(dev, id, by), there) }
	d, again := s.simulate(t, elsewhere(ticket))
	if again != address || !d.Info().Summary.Resumed {
		t.Errorf("%s at the second gateway, resumed %v; %s at the first", again, d.Info().Summary.Resumed, address)
	}
	var err error
	for range 5 {
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		_, err = d.Ping(ctx, inside, make([]byte, 56))
		cancel()
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("no echo by way of the second gateway: %v", err)
	}
	d.Vanish()
	// Without a ticket the device is one of the second gateway's.
	d, again = s.simulate(t, elsewhere(nil))
	if !halves[1].Contains(again) || d.Info().Summary.Resumed {
		t.Errorf("%s without a ticket, want one of %s", again, halves[1])
	}
}
