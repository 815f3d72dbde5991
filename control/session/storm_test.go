package session

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/dataplane"
)

// A few devices log in again and again, from new addresses, over a network that
// loses a fifth of all messages, to a data plane that fails now and then, while
// sessions are killed. Whenever it is quiet, sessions, leases and Child SAs
// agree, and no address has two owners.
func TestStorm(t *testing.T) {
	run(t, options{config: func(c *Config) {
		c.Gate.CookieAt = 1
		c.Gate.MaxHalfOpen, c.Gate.MaxHalfOpenPrefix, c.Gate.CookieAtPrefix = 64, 64, 60
	}}, func(w *world) {
		rnd := rand.New(rand.NewPCG(1, 2))
		w.net.lose = func(dataplane.Datagram) bool { return rnd.IntN(5) == 0 }
		for range 20 {
			for range 5 {
				d := w.start(w.ca.ike(fmt.Sprintf("device%d", rand.IntN(6)), 24*time.Hour))
				if rand.IntN(3) == 0 {
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
				}
				if rand.IntN(4) == 0 {
					d.vanish()
				}
			}
			w.net.set(func() {
				w.net.applyErr = nil
				if rand.IntN(4) == 0 {
					w.net.applyErr = dataplane.ErrInvalid
				}
			})
			w.server.Kill(func(Info) bool { return rand.IntN(8) == 0 })
			w.later(45 * time.Second) // longer than half-open, lingering and every DELETE
			w.agrees()
		}
		st := w.server.Stats()
		if st.EstablishedTotal < 20 || st.Drops[gate.ReasonCookieRequired.String()] == 0 {
			t.Errorf("the storm was a breeze: %+v", st)
		}
	})
}

func (w *world) agrees() {
	w.t.Helper()
	owners := make(map[netip.Addr]string)
	devices := make(map[string]bool)
	sessions := w.server.Sessions()
	for _, i := range sessions {
		if other, taken := owners[i.VirtualIPs[0]]; taken || devices[i.Device] {
			w.t.Errorf("%s has %v, which is also %s's, or two sessions", i.Device, i.VirtualIPs[0], other)
		}
		owners[i.VirtualIPs[0]], devices[i.Device] = i.Device, true
		if spi, ok := w.net.Outbound(i.VirtualIPs[0]); !ok || spi != i.Inbound {
			w.t.Errorf("packets for %s go to Child SA %x, want %x", i.Device, spi, i.Inbound)
		}
	}
	for _, l := range w.leases.List() {
		if l.Live && owners[l.Address] != l.Device {
			w.t.Errorf("lease %v of %s is live without a session", l.Address, l.Device)
		}
	}
	reserved, installed := w.net.state()
	w.want("reserved SPIs", reserved, 0)
	w.want("Child SAs", installed, len(sessions))
	w.want("live leases", w.leases.Stats().Live, len(sessions))
	w.want("seats", w.server.seats.Load(), int64(len(sessions)))
	w.want("half-open", w.server.Stats().HalfOpen, 0)
	w.server.meter.mu.Lock()
	defer w.server.meter.mu.Unlock()
	w.want("Child SAs that are metered", len(w.server.meter.children), installed)
}
