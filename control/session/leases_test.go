package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// What is asked for, what pools there are, and what is granted.
func TestLeasesOfBothFamilies(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.9.0.77"), netip.MustParseAddr("2001:db8:9::77")
	const pool4, pool6 = "10.9.0.0/24", "2001:db8:9::/64"
	for name, c := range map[string]struct {
		pools []string
		ask   ike.AskLease
		want  []string // addresses; none: LeaseFailed
	}{
		"both":                    {[]string{pool4, pool6}, ike.AskLease{IPv4: true, IPv6: true}, []string{"10.9.0.1", "2001:db8:9::1"}},
		"both, by wish":           {[]string{pool4, pool6}, ike.AskLease{IPv4: true, IPv6: true, Want: []netip.Addr{v6, v4}}, []string{"10.9.0.77", "2001:db8:9::77"}},
		"IPv6 only":               {[]string{pool4, pool6}, ike.AskLease{IPv6: true}, []string{"2001:db8:9::1"}},
		"both, no pool of IPv6":   {[]string{pool4}, ike.AskLease{IPv4: true, IPv6: true}, []string{"10.9.0.1"}},
		"both, no pool of IPv4":   {[]string{pool6}, ike.AskLease{IPv4: true, IPv6: true}, []string{"2001:db8:9::1"}},
		"IPv6, no pool of it":     {[]string{pool4}, ike.AskLease{IPv6: true}, nil},
		"both, IPv6 is used up":   {[]string{pool4, "2001:db8:9::/127"}, ike.AskLease{IPv4: true, IPv6: true}, nil},
		"both, IPv4 is used up":   {[]string{"10.9.0.0/31", pool6}, ike.AskLease{IPv4: true, IPv6: true}, nil},
		"IPv4, IPv6 is used up":   {[]string{pool4, "2001:db8:9::/127"}, ike.AskLease{IPv4: true}, []string{"10.9.0.1"}},
		"both, wish of one of it": {[]string{pool4, pool6}, ike.AskLease{IPv4: true, IPv6: true, Want: []netip.Addr{v6}}, []string{"10.9.0.1", "2001:db8:9::77"}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, options{scripted: true, pools: c.pools}, func(w *world) {
				// Others have the two addresses of the small pools.
				small := map[string]lease.Family{"10.9.0.0/31": lease.IPv4, "2001:db8:9::/127": lease.IPv6}
				for _, p := range c.pools {
					f, ok := small[p]
					for n, device := range []string{"one", "two"} {
						if ok {
							w.leases.Acquire(lease.Request{Device: device, Session: lease.SessionID(n + 1), Family: f}, func(_ lease.Grant, err error) {
								if err != nil {
									t.Error(err)
								}
							})
						}
					}
				}
				w.settled()
				others := w.leases.Stats().Live
				m := w.open(1)
				ask := c.ask
				ask.Device = "phone"
				w.emit(m, ask)
				leased, ok := m.last().(ike.Leased)
				if ok != (len(c.want) > 0) {
					t.Fatalf("answer %+v", m.last())
				}
				if ok {
					w.want("addresses", len(leased.Addresses), len(c.want))
					for i, a := range leased.Addresses {
						w.want("address", a.String(), c.want[i])
					}
					w.want("live", w.leases.Stats().Live, others+1)
				}
				w.emit(m, ike.Closed{Reason: ike.CloseNoAddress})
				w.want("live after the end", w.leases.Stats().Live, others)
				w.leases.End("one", 1)
				w.leases.End("two", 2)
				w.settled()
			})
		})
	}
}

// A device with both families comes up, and a second login of it takes over
// both addresses.
func TestDualStackDevice(t *testing.T) {
	run(t, options{pools: []string{"10.9.0.0/24", "2001:db8:9::/64"}, ipv6: true}, func(w *world) {
		first := w.connect("phone")
		w.want("state", first.state(), "up")
		i := w.only()
		w.want("addresses", len(i.VirtualIPs), 2)
		second := w.connect("phone")
		w.want("first", first.state(), "closed: "+string(ike.ClosePeerDeleted))
		w.want("IPv4", w.only().VirtualIPs[0], i.VirtualIPs[0])
		w.want("IPv6", w.only().VirtualIPs[1], i.VirtualIPs[1])
		w.want("live", w.leases.Stats().Live, 1)
		second.order <- ike.Close{Reason: ike.CloseKilled}
		w.settled()
		w.want("live", w.leases.Stats().Live, 0)
	})
}

// A machine that is gone between its two addresses leaves nothing behind.
func TestMachineEndsBetweenTwoAddresses(t *testing.T) {
	run(t, options{scripted: true, pools: []string{"10.9.0.0/24", "2001:db8:9::/64"}}, func(w *world) {
		m := w.open(1)
		sh := w.shardOf(m)
		held := heldLease{device: "phone", session: lease.SessionID(m.spi)}
		answered := make(chan struct{})
		w.leases.Acquire(lease.Request{Device: "phone", Session: held.session}, func(g lease.Grant, err error) {
			sh.mail.put(granted{acquisition{held: held, families: []lease.Family{lease.IPv4, lease.IPv6}}, g, err})
			sh.mail.put(answer{m.spi, ike.Close{}})
			close(answered)
		})
		<-answered
		w.settled()
		w.want("live", w.leases.Stats().Live, 0)
		w.want("seats", w.server.seats.Load(), int64(0))
	})
}

// An IKE SA without an address can carry nothing and nothing bounds how many a
// device has: it is closed.
func TestSessionWithoutLease(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.emit(m, ike.Established{Summary: ike.Summary{Device: "phone"}})
		w.want("told", m.last(), ike.Input(ike.Close{Reason: ike.CloseNoAddress}))
		w.want("sessions", len(w.server.Sessions()), 0)
	})
}

// An IKE SA comes up without a Child SA (RFC 6023) and gets one later.
func TestChildlessSession(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.up(m, ike.Summary{Device: "phone"})
		w.want("children", len(w.only().Children), 0)
		w.emit(m, ike.ChildUp{Inbound: 5, Outbound: 6, ESP: "AES_GCM_16_256"})
		i := w.only()
		w.want("inbound", uint32(i.Inbound), uint32(5))
		w.want("outbound", uint32(i.Outbound), uint32(6))
		w.want("ESP", i.ESP, "AES_GCM_16_256")
		w.emit(m, ike.ChildDown{Inbound: 5})
		w.want("inbound", uint32(w.only().Inbound), uint32(0))
		w.want("ESP", w.only().ESP, "")
		w.later(time.Hour)
		w.want("sessions", len(w.server.Sessions()), 1)
	})
}
