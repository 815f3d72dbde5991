package guard

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// A full table refuses the newcomer and keeps the others.
func TestTableOfSPIsIsBounded(t *testing.T) {
	g := loaded(t, func(c *Config) { c.SPIs = 100 })
	spis := make([]uint32, 150)
	for i := range spis {
		spis[i] = 0x2000 + uint32(i)
	}
	full := 0
	for i, err := range g.Add(spis) {
		switch got, _ := run(t, g, udp4(4500, esp(spis[i])).bytes()); {
		case errors.Is(err, ErrFull):
			full++
			if got != ESPUnknown {
				t.Errorf("%d was refused and is %v", i, got)
			}
		case err != nil || got != ESP:
			t.Errorf("%d: %v, %v", i, err, got)
		}
	}
	// A map may have room for a few more than it says, one for each CPU.
	if full < 20 || full > 51 {
		t.Errorf("%d of 150 were refused, there is room for 100, one is taken", full)
	}
	if got, _ := run(t, g, udp4(4500, esp(knownSPI)).bytes()); got != ESP {
		t.Errorf("the one that was there is %v", got)
	}
	if err := g.Remove(append([]uint32{0x9999}, spis...)); err != nil {
		t.Error(err)
	}
	for _, err := range g.Add(spis[:90]) {
		if err != nil {
			t.Fatalf("after a removal: %v", err)
		}
	}
	for _, err := range g.Add(spis[:90]) {
		if err != nil {
			t.Fatalf("added twice: %v", err)
		}
	}
}

func TestUnknownSPIsAreTold(t *testing.T) {
	g := loaded(t, func(c *Config) { c.Rates.Report = Rate{PerSecond: 1, Burst: 3} })
	for i := range uint32(10) {
		run(t, g, udp6(4500, esp(0x3000+i)).bytes())
	}
	run(t, g, udp4(0, esp(0x4000)).with(func(f *frame) { f.protocol = protocolESP }).bytes())
	if err := g.Sample(1); err != nil {
		t.Fatal(err)
	}
	dropped := udp4(4500, esp(0x5000)).bytes()
	run(t, g, dropped)
	run(t, g, dropped)
	for i := range uint32(3) {
		e, err := g.Next()
		want := UnknownSPI{
			SPI: 0x3000 + i, Local: netip.AddrPortFrom(gateway6, 4500), Remote: netip.AddrPortFrom(peer6, 40000), Encapsulated: true,
		}
		if err != nil || e != want {
			t.Errorf("%+v, %v; want %+v", e, err, want)
		}
	}
	e, err := g.Next()
	s, ok := e.(Sample)
	if err != nil || !ok {
		t.Fatalf("%+v, %v; want a sample, the reports are used up", e, err)
	}
	if s.Verdict != ESPUnknown || s.Length != len(dropped) || string(s.Data) != string(dropped[:96]) ||
		s.Local != netip.AddrPortFrom(gateway4, 4500) || s.Remote != netip.AddrPortFrom(peer4, 40000) {
		t.Errorf("sample %+v", s)
	}
	if err := g.Sample(0); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err := g.Next(); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %+v, %v", e, err)
	}
	if err := g.Sample(1); !errors.Is(err, ErrClosed) {
		t.Errorf("Sample after the end: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no interface":     func(c *Config) { c.Interface = 0 },
		"no address":       func(c *Config) { c.Locals = nil },
		"one port":         func(c *Config) { c.EncapPort = c.IKEPort },
		"too many SPIs":    func(c *Config) { c.SPIs = MaxSPIs + 1 },
		"no sources":       func(c *Config) { c.Sources = 0 },
		"rate of 0":        func(c *Config) { c.Rates.Init.PerSecond = 0 },
		"burst of 0":       func(c *Config) { c.Rates.Fragment.Burst = 0 },
		"too many allowed": func(c *Config) { c.Allow = make([]Allow, MaxAllow+1) },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := Open(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkPacket runs the program in the kernel with a million SPIs, each
// packet for another one, so that the table is cold: ns/op is what the kernel
// measured for one packet.
func BenchmarkPacket(b *testing.B) {
	const spis = 1_000_000
	g := loaded(b, func(c *Config) { c.SPIs, c.Sources = MaxSPIs, 1<<16 })
	list := make([]uint32, spis)
	for i := range list {
		list[i] = rand.Uint32() | 1<<31
	}
	for _, err := range g.Add(list) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for name, frame := range map[string]func(i int) []byte{
		"other":         func(int) []byte { return udp4(53, make([]byte, 64)).bytes() },
		"esp_same":      func(int) []byte { return udp4(4500, esp(list[0])).bytes() },
		"esp_cold":      func(i int) []byte { return udp4(4500, esp(list[i%spis])).bytes() },
		"esp_unknown":   func(int) []byte { return udp4(4500, esp(rand.Uint32()>>1)).bytes() },
		"init_answered": func(int) []byte { return udp4(500, first()).bytes() },
	} {
		b.Run(name, func(b *testing.B) {
			if name == "init_answered" {
				if err := g.Update(Settings{Rates: func() Rates { r := plentiful(); r.Init = exhausted; return r }()}); err != nil {
					b.Fatal(err)
				}
				setKeys(b, g, 7)
			}
			var total int64
			for i := range b.N {
				_, took, err := g.objects.Guard.Benchmark(frame(i), 1, nil)
				if err != nil {
					b.Fatal(err)
				}
				total += took.Nanoseconds()
			}
			b.ReportMetric(float64(total)/float64(b.N), "kernel-ns/packet")
		})
	}
}
