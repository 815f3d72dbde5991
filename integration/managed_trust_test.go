package integration

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/integration/netns"
)

// pings that a device sends until stop is called, which says how many weren't
// answered. answered counts the others, all the while.
type pings struct {
	answered atomic.Int64
	stop     func() (lost int)
}

func newPings(t *testing.T, d *device.Device) *pings {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	p, lost := new(pings), 0
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			one, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			_, err := d.Ping(one, netns.LANHost, make([]byte, 56))
			stop()
			if err != nil {
				lost++
			} else {
				p.answered.Add(1)
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	p.stop = func() int {
		cancel()
		<-done
		return lost
	}
	return p
}

// Roots of devices are pushed: a second one, beside the first, lets in who wasn't
// before, and no session notices; without the first its devices are out, over a
// crash too, although it is in the gateway's file. Managers are believed by that
// file all the time.
//
//	dev1 (simulated, old root) --- gw (gatewayd, managed) --- lan (the manager's place)
//	dev2 (simulated, new root) --/
func TestManagedTrust(t *testing.T) {
	t.Parallel()
	var m *managed
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		m = newManager(t, s)
		s.conf.Pools, s.conf.Networks = nil, nil
		s.conf.Management = m.section(t, "gw1", firstInside, "")
	}})
	m.join(t, "gw1", firstInside, s.top.LAN)
	m.begin(t, "gw1")
	m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "staff", "10.9.0.77"), authorised("tablet", "staff", "10.9.0.78")}, nil, "gw1")
	next := newAuthority(t, "the next root")
	phone, tablet := s.root.device(t, "phone", keyECDSA(t)), next.device(t, "tablet", keyECDSA(t))
	older := gcm.Authority{Root: true, DER: s.root.cert.Raw}.Record()
	newer := gcm.Authority{Root: true, DER: next.cert.Raw}.Record()
	tabletOf := s.ticketed(s.top.Devices[1], tablet, nil)

	old, _ := s.simulate(t, s.ticketed(s.top.Devices[0], phone, nil))
	id := s.sessions(t)[0].ID
	stream := newPings(t, old)
	// more of them are answered from now on.
	more := func(when string) {
		t.Helper()
		from := stream.answered.Load()
		s.eventually(t, "answers "+when, func() (bool, string) {
			n := stream.answered.Load() - from
			return n >= 20, fmt.Sprint(n)
		})
	}
	s.fails(t, tabletOf)
	more("before roots change")
	m.commit(t, gcm.Trust, []gcm.Record{older, newer}, nil, "gw1")
	fresh, _ := s.simulate(t, tabletOf)
	// What can't be a root leaves what there is.
	if status, said := m.offer(t, gcm.Trust, gcm.Authority{Root: true, DER: phone.cert.Raw}.Record()); status != 422 {
		t.Errorf("a device's certificate as a root: %d %s", status, said)
	}
	if status, said := m.offer(t, gcm.Trust, gcm.Authority{Root: true, DER: []byte("nothing")}.Record()); status != 422 {
		t.Errorf("octets as a root: %d %s", status, said)
	}
	more("after they did")
	if lost := stream.stop(); lost > 0 {
		t.Errorf("%d packets lost while roots changed, %d answered", lost, stream.answered.Load())
	}
	if list := s.sessions(t); len(list) != 2 || list[0].ID != id && list[1].ID != id {
		t.Errorf("the session of before isn't there: %+v", list)
	}

	m.commit(t, gcm.Trust, nil, [][]byte{older.Key}, "gw1")
	s.eventually(t, "the end of the old root's session", func() (bool, string) {
		list := s.sessions(t)
		return len(list) == 1 && list[0].Device == "tablet", fmt.Sprint(list)
	})
	s.fails(t, s.ticketed(s.top.Devices[0], phone, nil))
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	if _, err := fresh.Ping(ctx, netns.LANHost, make([]byte, 56)); err != nil {
		t.Errorf("the new root's session: %v", err)
	}
	fresh.Vanish()
	s.gw.Kill()
	s.start()
	s.fails(t, s.ticketed(s.top.Devices[0], phone, nil))
	fresh, _ = s.simulate(t, tabletOf)
	fresh.Vanish()
	// The manager's own root was never among those that were pushed, and with none
	// of them left the file's count again.
	m.commit(t, gcm.Trust, nil, [][]byte{newer.Key}, "gw1")
	back, _ := s.simulate(t, s.ticketed(s.top.Devices[0], phone, nil))
	back.Vanish()
	s.fails(t, tabletOf)
}

// offer a section's record by hand, one version ahead of what was committed.
func (m *managed) offer(t *testing.T, section gcm.Section, r gcm.Record) (int, string) {
	t.Helper()
	v, _, _ := m.docs.Version(section)
	v.Number += 1000
	set, err := gcm.NewSet(section)
	if err == nil {
		_, err = set.Commit(v, []gcm.Record{r}, nil)
	}
	var body snapshotText
	if err == nil {
		err = gcm.WriteSnapshot(&body, set)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m.send(t, "gw1", firstInside, "PUT", gcm.PathSections+string(section), gcm.SnapshotType, string(body))
}

// snapshotText collects what is written.
type snapshotText []byte

func (s *snapshotText) Write(p []byte) (int, error) { *s = append(*s, p...); return len(p), nil }

// A device that has an IPv6 address only is alerted, from the gateway's IPv6
// address inside.
//
//	dev1 (simulated, IPv6 inside) --- gw (gatewayd, managed) --- lan (the manager's place)
func TestManagedAlertIPv6(t *testing.T) {
	t.Parallel()
	gateway6, own := netip.MustParseAddr("fd00:9::fe"), netip.MustParseAddr("fd00:9::77")
	var m *managed
	s := newScenario(t, options{configure: func(s *scenario) {
		m = newManager(t, s)
		s.conf.Pools, s.conf.Networks = nil, nil
		s.conf.Management = m.section(t, "gw1", firstInside, "")
		s.conf.Extra = fmt.Sprintf("  tunnel: {ipv6: %q}\n", gateway6)
	}})
	m.join(t, "gw1", firstInside, s.top.LAN)
	m.begin(t, "gw1")
	m.commit(t, gcm.Addresses, []gcm.Record{gcm.Pool{Prefix: netip.MustParsePrefix("fd00:9::/64")}.Record()}, [][]byte{gcm.Pool{Prefix: pool}.Record().Key}, "gw1")
	m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "staff", own.String())}, nil, "gw1")
	woken := make(chan string, 16)
	cfg := s.ticketed(s.top.Devices[0], s.root.device(t, "phone", keyECDSA(t)), nil)
	cfg.Profile.IPv6 = true
	cfg.Deliver = func(packet []byte) {
		if u, ok := device.ParseUDP(packet); ok {
			select {
			case woken <- fmt.Sprintf("%v %v %s", u.Src, u.Dst, u.Data):
			default:
			}
		}
	}
	d, address := s.simulate(t, cfg)
	if address != own || len(d.Info().Summary.VirtualIPs) != 1 {
		t.Fatalf("it has %v, not %v alone", d.Info().Summary.VirtualIPs, own)
	}
	if got, body := m.ask(t, "gw1", firstInside, "POST", gcm.PathAlerts+"phone?alert=a6", "wake up"); got != 202 {
		t.Fatalf("%d %s", got, body)
	}
	select {
	case got := <-woken:
		if want := "[fd00:9::fe]:2948 [fd00:9::77]:2948 wake up"; got != want {
			t.Errorf("%q came, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no alert came within 20 seconds")
	}
}
