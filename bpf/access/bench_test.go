package access

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
)

// fleet is an Access with a million devices in eight groups of 100 networks each.
func fleet(b *testing.B, n int) *Access {
	b.Helper()
	a := open(b, Config{MaxDevices: n})
	var groups []acl.Group
	for g := range 8 {
		var rules []acl.Rule
		for i := range 100 {
			remote, _ := netip.AddrFrom4([4]byte{10, 2, byte(g), byte(i)}).Prefix(32)
			rules = append(rules, acl.Rule{Allow: true, Remote: remote, Protocol: acl.TCP, First: 443, Last: 443})
		}
		rules = append(rules, acl.Rule{Allow: true, Remote: netip.MustParsePrefix("10.2.0.0/16"), Protocol: acl.UDP, First: 53, Last: 53})
		l, err := acl.New(rules)
		if err != nil {
			b.Fatal(err)
		}
		groups = append(groups, acl.Group{Name: string(rune('a' + g)), List: l})
	}
	a.set(b, groups...)
	began := time.Now()
	batch := make([]acl.Device, 0, 4096)
	for i := range n {
		batch = append(batch, acl.Device{SPI: uint32(1000 + i), Addresses: []netip.Addr{fleetAddress(i)}, Group: groups[i%8].Name})
		if len(batch) == cap(batch) || i == n-1 {
			if err := errors.Join(a.Add(batch)...); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	b.Logf("%d devices added in %v", n, time.Since(began))
	return a
}

func fleetAddress(i int) netip.Addr {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], 11<<24|uint32(i))
	return netip.AddrFrom4(raw)
}

// BenchmarkAccess has the kernel judge packets of a million devices: one device
// again and again (warm), and another device for each packet (cold), each run
// timed by the kernel. ns/packet is the median.
func BenchmarkAccess(b *testing.B) {
	const devices = 1_000_000
	a := fleet(b, devices)
	of := func(i int) []byte {
		host := netip.AddrFrom4([4]byte{10, 2, byte(i % 8), byte(i % 100)})
		return octets(packet{Device: fleetAddress(i), Remote: host, Protocol: acl.TCP, Port: 443, Payload: make([]byte, 64)}, acl.In)
	}
	median := func(b *testing.B, next func() []byte, repeat int) {
		var times []time.Duration
		for b.Loop() {
			_, took, err := a.programs.AccessIn.Benchmark(next(), repeat, nil)
			if err != nil {
				b.Fatal(err)
			}
			times = append(times, took)
		}
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "ns/packet")
	}
	b.Run("warm", func(b *testing.B) { median(b, func() []byte { return of(4711) }, 10000) })
	b.Run("cold", func(b *testing.B) {
		random := rand.New(rand.NewPCG(5, 6))
		median(b, func() []byte { return of(random.IntN(devices)) }, 1)
	})
	// The time of a run without a look-up: what the kernel adds to each.
	b.Run("cold/nobody", func(b *testing.B) {
		nobody := octets(packet{Device: host4, Remote: host4, Protocol: acl.TCP}, acl.In)
		nobody[ethernet] = 0x45 - 0x10 // not IPv4: dropped at once
		median(b, func() []byte { return nobody }, 1)
	})
}
