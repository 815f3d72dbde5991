package push_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/dmlink/push"
)

// TestBackOff: a gateway that can't be reached, or says nothing, is dialled less
// and less often, and never quite regularly.
func TestBackOff(t *testing.T) {
	for name, dial := range map[string]func() (net.Conn, error){
		"refused": func() (net.Conn, error) { return nil, errors.New("refused") },
		"silent": func() (net.Conn, error) {
			ours, _ := net.Pipe()
			return ours, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var dials []time.Time
				c := install(t).config(t, documents(t), newJournal())
				c.Dial = func(context.Context, string, string) (net.Conn, error) {
					mu.Lock()
					dials = append(dials, time.Now())
					mu.Unlock()
					return dial()
				}
				m := manage(t, c, push.Gateway{Name: "gateway-1", Host: "gateway-1.example.org", Address: netip.MustParseAddrPort("192.0.2.1:7443")})
				time.Sleep(3 * time.Hour)
				m.Close()
				// A try that was given up ends a moment later.
				time.Sleep(time.Minute)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				longest, shortest := time.Duration(0), time.Hour
				for n := 1; n < len(dials); n++ {
					gap := dials[n].Sub(dials[n-1])
					// A try that isn't answered takes up to half a minute by itself.
					if most := min(time.Second<<min(n-1, 20), 5*time.Minute) + 31*time.Second; gap > most {
						t.Errorf("try %d came after %v, at most %v", n, gap, most)
					}
					if n > 10 {
						longest, shortest = max(longest, gap), min(shortest, gap)
						if gap < 150*time.Second {
							t.Errorf("try %d came after %v already", n, gap)
						}
					}
				}
				if longest-shortest < 10*time.Second {
					t.Errorf("%d tries all between %v and %v", len(dials), shortest, longest)
				}
			})
		})
	}
}

// TestManyGateways are dialled a few at a time, and all of them.
func TestManyGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, dialled := 0, 0, map[string]bool{}
		c := install(t).config(t, documents(t), newJournal())
		c.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			now++
			most = max(most, now)
			dialled[address] = true
			mu.Unlock()
			time.Sleep(3 * time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil, errors.New("refused")
		}
		const all = 300
		m := manage(t, c)
		for n := range all {
			address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), 7443)
			if err := m.Add(push.Gateway{Name: fmt.Sprint("gateway-", n), Host: "gateway.example.org", Address: address}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Minute)
		m.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(dialled) != all || most > 32 || most < 16 {
			t.Errorf("%d of %d were dialled, %d at once", len(dialled), all, most)
		}
		if got := len(m.Status()); got != 0 {
			t.Errorf("%d gateways after the end", got)
		}
	})
}
