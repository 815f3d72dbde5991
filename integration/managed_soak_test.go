package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
)

// What it takes to keep a device out that is connected, at a gateway that has a
// million authorisations: from the commit at the manager until the device hears
// that its session is deleted, at which time its packets are no longer taken.
// Devices are barred one after the other, and let in again.
//
//	dev1 (simulated) -- gw (gatewayd, managed) -- lan
func TestSoakRevocation(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("ROAMGATE_SOAK isn't set")
	}
	var m *managed
	s := newScenario(t, options{patience: 10 * time.Minute, configure: func(s *scenario) {
		m = newManager(t, s)
		s.conf.Pools, s.conf.Networks, s.conf.LogLevel = nil, nil, "info"
		s.conf.Management = m.section(t, "gw1", firstInside, "")
	}})
	const devices = 1 << 20
	records := make([]gcm.Record, 0, devices)
	for n := range devices {
		records = append(records, authorised(fmt.Sprintf("device-%07d", n), "staff", fmt.Sprintf("10.%d.%d.%d", 64+(n>>16), n>>8&0xff, n&0xff)))
	}
	records = append(records, gcm.Authorisation{Device: "phone", Group: "staff"}.Record())
	set, err := gcm.NewSet(gcm.Devices)
	if err != nil {
		t.Fatal(err)
	}
	m.number = 1
	if _, err := set.Commit(gcm.Version{Epoch: 1, Number: 1}, records, nil); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if m.docs, err = push.NewDocuments(set); err != nil {
		t.Fatal(err)
	}
	m.Manager = m.as(t, m.own)
	before := s.metric(t, "process_resident_memory_bytes")
	began := time.Now()
	m.join(t, "gw1", firstInside, s.top.LAN)
	s.within(t, 3*time.Minute, "a million authorisations", func() (bool, string) {
		list := m.Status()
		at := list[0].Sections[gcm.Devices]
		return at.Applied && at.Version.Number == 1, fmt.Sprint(list[0].Err, at)
	})
	t.Logf("a snapshot of %d authorisations took %v", devices, time.Since(began))
	m.begin(t, "gw1")
	m.commit(t, gcm.Addresses, []gcm.Record{gcm.Pool{Prefix: pool, Gateway: "gw1"}.Record()}, nil, "gw1")

	phone := s.root.device(t, "phone", keyECDSA(t))
	var took []time.Duration
	for range 20 {
		d, _ := s.simulate(t, s.ticketed(s.top.Devices[0], phone, nil))
		m.number++
		v := gcm.Version{Epoch: 1, Number: m.number}
		began := time.Now()
		if err := m.docs.Commit(gcm.Devices, v, []gcm.Record{gcm.Authorisation{Device: "phone", Barred: true}.Record()}, nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		_, err := d.Await(ctx, func(i device.Info) bool { return i.State == device.Ended })
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
		m.commit(t, gcm.Devices, []gcm.Record{gcm.Authorisation{Device: "phone", Group: "staff"}.Record()}, nil, "gw1")
	}
	slices.Sort(took)
	t.Logf("from the commit to the end of the session: median %v, longest %v", took[len(took)/2], took[len(took)-1])
	t.Logf("resident memory: %.0f MiB before, %.0f MiB with %d authorisations; live heap %.0f MiB",
		before/(1<<20), s.metric(t, "process_resident_memory_bytes")/(1<<20), devices, s.metric(t, "go_memstats_heap_alloc_bytes")/(1<<20))
}
