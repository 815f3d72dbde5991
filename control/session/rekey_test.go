package session

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// only returns the one session there is.
func (w *world) only() Info {
	w.t.Helper()
	sessions := w.server.Sessions()
	if len(sessions) != 1 {
		w.t.Fatalf("%d sessions", len(sessions))
	}
	return sessions[0]
}

// machines counts those of all shards.
func (w *world) machines() (n int) {
	for _, sh := range w.server.shards {
		w.on(sh, func(time.Time) { n += len(sh.machines) })
	}
	return n
}

// awake lets time pass; at its end the device was heard of lately, so it isn't
// taken to be asleep.
func (w *world) awake(d *device, pass time.Duration) {
	w.later(pass - 10*time.Second)
	w.net.heard(d.virtualIP(), time.Now())
	w.later(10 * time.Second)
}

// lives gives both sides' SAs lifetimes.
func lives(by string, l ike.Lifetime, set func(*ike.Config, ike.Lifetime)) (gateway func(*Config), device func(*ike.Config)) {
	gateway, device = func(*Config) {}, func(*ike.Config) {}
	if by == "gateway" || by == "both" {
		gateway = func(c *Config) { set(c.IKE, l) }
	}
	if by == "device" || by == "both" {
		device = func(c *ike.Config) { set(c, l) }
	}
	return gateway, device
}

// The IKE SA is rekeyed, by whichever side, some times: the session stays, with
// its ID, its lease and its figures; messages find the new machine whoever
// began it; and of the old ones nothing is left.
func TestIKERekeying(t *testing.T) {
	for _, by := range []string{"gateway", "device", "both"} {
		gateway, device := lives(by, ike.Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour}, func(c *ike.Config, l ike.Lifetime) { c.IKELife = l })
		run(t, options{config: gateway}, func(w *world) {
			cfg := w.ca.ike("phone", 24*time.Hour)
			device(cfg)
			d := w.connectWith(cfg)
			first := w.only()
			w.want("ID", uint64(first.ID), first.ResponderSPI)
			seen := map[uint64]bool{first.InitiatorSPI: true, first.ResponderSPI: true}
			for range 5 {
				w.awake(d, time.Hour+time.Second)
				now := w.only()
				w.want("state", d.state(), "up")
				w.want("ID", now.ID, first.ID)
				w.want("established", now.Established, first.Established)
				if seen[now.InitiatorSPI] || seen[now.ResponderSPI] {
					t.Errorf("%s: SPIs %x and %x were seen before", by, now.InitiatorSPI, now.ResponderSPI)
				}
				seen[now.InitiatorSPI], seen[now.ResponderSPI] = true, true
				w.want("Child SA", now.Inbound, first.Inbound)
			}
			w.want("bytes in", w.only().BytesIn, uint64(500))
			st := w.server.Stats()
			w.want("rekeyed", st.RekeyedIKE, uint64(5))
			w.want("established", st.EstablishedTotal, uint64(1))
			w.want("live leases", w.leases.Stats().Live, 1)
			w.later(5 * time.Minute)
			w.want("machines", w.machines(), 1)
			// If both began, each time one is redundant.
			if n := w.server.Stats().Closed[ike.CloseRekeyed]; n < 5 || n > 10 || (by != "both" && n != 5) {
				t.Errorf("%s: %d closed as rekeyed", by, n)
			}
			w.want("log", countLog(w, "session closed"), 0)
			w.want("half-open", w.server.Stats().HalfOpen, 0)

			// It works both ways still.
			w.want("killed", w.server.Kill(func(i Info) bool { return i.ID == first.ID }), 1)
			w.settled()
			w.want("state", d.state(), "closed: "+string(ike.ClosePeerDeleted))
			w.want("log", countLog(w, "session closed"), 1)
			w.wantEmpty()
		})
	}
}

func countLog(w *world, part string) (n int) {
	log := w.log.String()
	for i := range len(log) - len(part) {
		if log[i:i+len(part)] == part {
			n++
		}
	}
	return n
}

// A Child SA is rekeyed by whichever side: packets go by the new one, and the
// figures of the old one are not lost.
func TestChildRekeying(t *testing.T) {
	for _, by := range []string{"gateway", "device", "both"} {
		gateway, device := lives(by, ike.Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour}, func(c *ike.Config, l ike.Lifetime) { c.ChildLife = l })
		run(t, options{config: gateway}, func(w *world) {
			cfg := w.ca.ike("phone", 24*time.Hour)
			device(cfg)
			d := w.connectWith(cfg)
			last := w.only()
			for range 5 {
				w.net.said(d.virtualIP(), time.Now())
				w.awake(d, time.Hour+time.Second)
				now := w.only()
				w.want("state", d.state(), "up")
				if now.Inbound == last.Inbound || now.Outbound == last.Outbound {
					t.Errorf("%s: Child SA is still %x, %x", by, now.Inbound, now.Outbound)
				}
				w.want("children", len(now.Children), 1)
				if spi, _ := w.net.Outbound(d.virtualIP()); spi != now.Inbound {
					t.Errorf("packets go by %x, want %x", spi, now.Inbound)
				}
				last = now
			}
			w.want("IKE SA", last.ResponderSPI, uint64(last.ID))
			w.want("in", last.BytesIn, uint64(500))
			w.want("packets in", last.PacketsIn, uint64(5))
			w.want("out", last.BytesOut, uint64(5000))
			w.later(time.Minute)
			w.want("total in", w.server.Stats().BytesIn, uint64(500))
			w.want("total out", w.server.Stats().PacketsOut, uint64(5))
			if reserved, installed := w.net.state(); reserved != 0 || installed != 1 {
				t.Errorf("%s: %d SPIs reserved, %d installed", by, reserved, installed)
			}
		})
	}
}

// The data plane says that a Child SA carried nearly as much as it may.
func TestSoftLimitRekeysTheChild(t *testing.T) {
	run(t, options{}, func(w *world) {
		d := w.connect("phone")
		before := w.only()
		w.net.Tell(dataplane.LimitReached{Inbound: before.Inbound})
		w.net.Tell(dataplane.LimitReached{Inbound: 0x999999})
		w.settled()
		after := w.only()
		if after.Inbound == before.Inbound || d.state() != "up" {
			t.Errorf("Child SA %x before, %x after, device %s", before.Inbound, after.Inbound, d.state())
		}
		// The end of the old one, told late, concerns nobody.
		w.net.Tell(dataplane.LimitReached{Inbound: before.Inbound, Hard: true})
		w.settled()
		w.want("state", d.state(), "up")
	})
}

// A Child SA that may carry nothing more is replaced if it isn't the only one.
func TestHardLimitOfOneOfTwo(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.up(m, ike.Summary{Device: "phone", Inbound: 1})
		w.emit(m, ike.ChildUp{Inbound: 2, ESP: "second"})
		w.want("children", len(w.only().Children), 2)
		w.net.Tell(dataplane.LimitReached{Inbound: 2, Hard: true})
		w.settled()
		w.want("told", m.last(), ike.Input(ike.Rekey{Inbound: 2}))
		w.emit(m, ike.ChildDown{Inbound: 1})
		w.want("ESP", w.only().ESP, "second")
		w.want("inbound", w.only().Inbound, dataplane.SPI(2))
		w.net.Tell(dataplane.Expired{Inbound: 2})
		w.settled()
		w.want("told", m.last(), ike.Input(ike.Close{Reason: ike.CloseExpired}))
	})
}

// The same device logs in again while its IKE SA is being rekeyed, and while
// the old IKE SA is still there.
func TestSecondLoginDuringRekeying(t *testing.T) {
	for _, by := range []string{"gateway", "device", "both"} {
		gateway, device := lives(by, ike.Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour}, func(c *ike.Config, l ike.Lifetime) { c.IKELife = l })
		for lost := range 5 {
			run(t, options{config: gateway}, func(w *world) {
				cfg := w.ca.ike("phone", 24*time.Hour)
				device(cfg)
				first := w.connectWith(cfg)
				w.awake(first, time.Hour-time.Second)
				// From some message of the rekeying on nothing arrives.
				n := 0
				w.net.set(func() {
					w.net.lose = func(d dataplane.Datagram) bool {
						if d.Local.Addr() == first.addr || d.Remote.Addr() == first.addr {
							n++
							return n > lost
						}
						return false
					}
				})
				w.later(2 * time.Second)
				second := w.connect("phone")
				w.want("second", second.state(), "up")
				w.want("address", second.virtualIP(), first.virtualIP())
				w.later(10 * time.Minute)
				w.want("sessions", len(w.server.Sessions()), 1)
				w.want("second", second.state(), "up")
				w.want("live leases", w.leases.Stats().Live, 1)
				w.want("machines", w.machines(), 1)
				w.agrees()
			})
		}
	}
}

// Somebody kills the session at any moment of a rekeying.
func TestKillDuringRekeying(t *testing.T) {
	for _, by := range []string{"gateway", "device", "both"} {
		gateway, device := lives(by, ike.Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour}, func(c *ike.Config, l ike.Lifetime) { c.IKELife = l })
		for lost := range 5 {
			run(t, options{config: gateway}, func(w *world) {
				cfg := w.ca.ike("phone", 24*time.Hour)
				device(cfg)
				d := w.connectWith(cfg)
				w.awake(d, time.Hour-time.Second)
				n := 0
				w.net.set(func() { w.net.lose = func(dataplane.Datagram) bool { n++; return n == lost+1 } })
				w.later(time.Second)
				w.want("killed", w.server.Kill(func(Info) bool { return true }), 1)
				w.later(10 * time.Minute)
				d.order <- ike.Probe{} // finds out, if it wasn't told
				w.later(time.Minute)
				if d.state() == "up" {
					t.Errorf("rekeyed by %s, message %d lost: the device is still up", by, lost+1)
				}
				w.want("sessions", len(w.server.Sessions()), 0)
				w.want("killed", w.server.Stats().Closed[ike.CloseKilled], uint64(1))
				w.want("machines", w.machines(), 0)
				w.want("live leases", w.leases.Stats().Live, 0)
				w.agrees()
			})
		}
	}
}

// A reload that changes everything leaves sessions alone, and rekeying goes on.
func TestReloadDropsNoSession(t *testing.T) {
	run(t, options{config: func(c *Config) { c.IKE.IKELife = ike.Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour} }}, func(w *world) {
		d := w.connect("phone")
		id := w.only().ID
		settings := *w.server.settings.Load()
		fresh := w.ca.ike("gw2.example", 24*time.Hour)
		fresh.ForceUDP = true
		fresh.Suites = fresh.Suites[:1]
		settings.IKE, settings.Admit = fresh, w.ca.policy("somebody")
		settings.Assign.DNS = []netip.Addr{netip.MustParseAddr("10.2.0.53")}
		settings.Liveness.Idle, settings.Parking.Idle = time.Hour, 10*time.Hour
		if err := w.leases.Reconfigure(lease.Config{Pools: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/24")}}); err != nil {
			t.Fatal(err)
		}
		if err := w.server.Update(settings); err != nil {
			t.Fatal(err)
		}
		w.awake(d, 59*time.Minute)
		w.later(30 * time.Minute)
		w.want("state", d.state(), "up")
		w.want("session", w.only().ID, id)
		w.want("rekeyed", w.server.Stats().RekeyedIKE, uint64(1))
		other := w.connect("laptop")
		w.want("new session's pool", netip.MustParsePrefix("10.8.0.0/24").Contains(other.virtualIP()), true)
	})
}

// New algorithms of a reload reach sessions that are up when they rekey, also
// where the group that they were made with is given up.
func TestReloadReachesRekeyings(t *testing.T) {
	life := ike.Lifetime{Rekey: time.Hour, Hard: 3 * time.Hour}
	set := func(c *ike.Config) {
		c.IKELife, c.ChildLife = life, ike.Lifetime{Rekey: 90 * time.Minute, Hard: 3 * time.Hour}
	}
	later := func(c *ike.Config) {
		c.Suites = []ikecrypto.Suite{{Encryption: ikewire.EncrAESGCM16, KeyBits: 256, PRF: ikewire.PRFHMACSHA384, Group: ikewire.GroupECP256}}
		c.ESP = []dataplane.Algorithm{{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 256}}
	}
	run(t, options{config: func(c *Config) { set(c.IKE) }}, func(w *world) {
		cfg, more := w.ca.ike("phone", 24*time.Hour), w.ca.ike("unused", time.Hour)
		later(more)
		cfg.Suites, cfg.ESP = append(cfg.Suites, more.Suites...), append(cfg.ESP, more.ESP...)
		d := w.connectWith(cfg)
		before := w.only()
		settings := *w.server.settings.Load()
		newest := *settings.IKE
		later(&newest)
		settings.IKE = &newest
		if err := w.server.Update(settings); err != nil {
			t.Fatal(err)
		}
		w.awake(d, time.Hour+time.Second)
		w.awake(d, 30*time.Minute)
		after := w.only()
		w.want("session", after.ID, before.ID)
		w.want("IKE before", before.IKE, "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519")
		w.want("IKE", after.IKE, "AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_256")
		w.want("ESP before", before.ESP, "AES_GCM_16_128")
		w.want("ESP", after.ESP, "AES_GCM_16_256")
	})
}

// A message of an IKE SA that we began in place of another: our SPI is the
// initiator's. The same SPI in the other place is nobody's.
func TestMessagesOfAnIKESAThatWeBegan(t *testing.T) {
	run(t, options{config: func(c *Config) { c.IKE.IKELife = ike.Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour} }}, func(w *world) {
		d := w.connect("phone")
		w.awake(d, 59*time.Minute)
		w.later(2 * time.Minute)
		i := w.only()
		if uint64(i.ID)>>56 != i.InitiatorSPI>>56 {
			t.Errorf("session %x goes on as %x, of another shard", i.ID, i.InitiatorSPI)
		}
		notes := func() (n uint64) {
			for _, m := range w.server.Stats().Notes {
				n += m
			}
			return n
		}
		before := notes()
		forged := informational(i.ResponderSPI)
		binary.BigEndian.PutUint64(forged.Data, i.InitiatorSPI)
		forged.Data[19] = 0 // not of the initiator
		w.net.send(forged)
		wrong := informational(i.InitiatorSPI)
		w.net.send(wrong)
		w.settled()
		w.want("noted by the machine", notes(), before+1)
		w.want("nobody's", w.server.Stats().Drops[ReasonUnknownIKESPI.String()], uint64(1))
		w.want("state", d.state(), "up")
	})
}

// A peer that rekeys and never deletes: what it leaves is bounded.
func TestRekeyedMachinesAreBounded(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.up(m, ike.Summary{Device: "phone", Inbound: 1})
		for n := range uint64(3 * maxMachines) {
			next := ike.NewResponder(nil, 0, 0)
			w.emit(m, ike.Spawned{Next: next, InitiatorSPI: n, ResponderSPI: m.spi + n + 1})
		}
		w.want("machines", w.machines(), maxMachines)
		w.want("forgotten", w.server.Stats().Drops[ReasonRekeyedSAs.String()], uint64(3*maxMachines+1-maxMachines))
		w.want("session", w.only().Device, "phone")
	})
}

// Six devices whose SAs are rekeyed all the time by both sides, over a network
// that loses a tenth of all messages, but not all tries of one exchange: every
// session stays, and nothing leaks.
func TestRekeyStorm(t *testing.T) {
	short := ike.Lifetime{Rekey: 20 * time.Second, Jitter: 15 * time.Second, Hard: 5 * time.Minute}
	const tries = 6
	set := func(c *ike.Config) { c.ChildLife, c.IKELife, c.Tries = short, short, tries }
	// exchange that messages belong to. One that lost all of its tries has lost
	// its peer: seldom enough (0.19^6), but there are a thousand.
	type exchange struct {
		initiator  uint64 // SPI
		id         uint32 // of the message
		byOriginal bool   // initiator
	}
	run(t, options{config: func(c *Config) { set(c.IKE) }}, func(w *world) {
		n, lost := 0, make(map[exchange]int)
		w.net.lose = func(d dataplane.Datagram) bool {
			n++
			h, err := ikewire.ParseHeader(d.Data)
			e := exchange{h.InitiatorSPI, h.MessageID, h.FromInitiator() != h.IsResponse()}
			if err != nil || n%10 != 0 || lost[e] == tries-1 {
				return false
			}
			lost[e]++
			return true
		}
		w.net.delay = 400 * time.Millisecond
		var all []*device
		for i := range 6 {
			cfg := w.ca.ike(fmt.Sprintf("device%d", i), 24*time.Hour)
			set(cfg)
			all = append(all, w.start(cfg))
		}
		w.later(time.Minute)
		for range 30 {
			for _, i := range w.server.Sessions() {
				w.net.heard(i.VirtualIPs[0], time.Now())
			}
			w.later(17 * time.Second)
		}
		st := w.server.Stats()
		if st.RekeyedIKE < 50 || st.Notes[ike.NoteRekeyCollision] == 0 {
			t.Errorf("%d rekeyings, %d collisions: no storm", st.RekeyedIKE, st.Notes[ike.NoteRekeyCollision])
		}
		for i, d := range all {
			w.want(fmt.Sprintf("device%d", i), d.state(), "up")
		}
		w.want("sessions", len(w.server.Sessions()), len(all))
		w.net.set(func() { w.net.lose = nil })
		w.server.Kill(func(Info) bool { return true })
		w.later(5 * time.Minute)
		w.want("machines", w.machines(), 0)
		w.agrees()
	})
}
