package device

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Forty devices share three sockets: each gets what is for it, through moves to
// another one of them, rekeyings by both sides, and its end, and nobody gets what
// is another's.
func TestSharedSockets(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		pool, err := NewPool(w.net.listener("10.1.0.2"), 3)
		if err != nil {
			w.Fatal(err)
		}
		defer pool.Close()
		var devices []*Device
		numbers := make(map[uint32]bool)
		ports := make(map[netip.AddrPort]int)
		for i := range 40 {
			d := w.connect(func(c *Config) {
				name := fmt.Sprintf("dev%d", i)
				*c = w.gateway.config(name)
				c.Listen = pool.Listen
			})
			devices = append(devices, d)
			numbers[uint32(d.Info().Child)>>(32-numberBits)] = true
			ports[d.Info().Local]++
		}
		if len(numbers) != len(devices) || len(ports) != 3 {
			w.Errorf("%d numbers and ports %v for %d devices", len(numbers), ports, len(devices))
		}
		all := func() {
			w.Helper()
			for _, d := range devices {
				w.ping(d)
			}
		}
		all()
		for _, d := range devices {
			before := d.Info()
			if err := d.Roam(must(pool.Listen())); err != nil {
				w.Fatal(err)
			}
			w.await(d, "the move", func(i Info) bool { return i.Moves > before.Moves })
			if d.Info().Local == before.Local {
				w.Error("moved to where it was")
			}
			if err := errors.Join(d.RekeyIKE(), d.RekeyChild()); err != nil {
				w.Fatal(err)
			}
			w.await(d, "both rekeyings", func(i Info) bool { return i.IKESAs == 2 && i.ChildSAs == 2 })
			if n := pool.Strays(); n != 0 {
				w.Fatalf("%d datagrams were for nobody", n)
			}
		}
		all()
		// The gateway finds out by the first packet, whose answer goes to where the
		// device isn't any more.
		for i, d := range devices {
			if err := d.RemapPort(); err != nil {
				w.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			if _, err := d.Ping(ctx, lan, nil); err == nil {
				w.Error("what came to another socket was taken")
			}
			cancel()
			if n := pool.Strays(); n != uint64(i+1) {
				w.Fatalf("%d datagrams were for nobody, want %d", n, i+1)
			}
		}
		all()
		for _, d := range devices {
			ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
			if err := d.Close(ctx); err != nil {
				w.Error(err)
			}
			cancel()
			if n := d.Counters().Drops; n[DropUnknownIKE]+n[DropUnknownSPI]+n[DropIntegrity] != 0 {
				w.Errorf("got what was for others: %v", n)
			}
		}
		synctest.Wait()
		if n := len(pool.members); n != 0 {
			w.Errorf("%d members are left", n)
		}
	})
}

// What comes from anybody finds its device, or none.
func TestNumberOf(t *testing.T) {
	ike := func(marker bool, initiator, responder uint64, flags byte) []byte {
		b := make([]byte, 28)
		binary.BigEndian.PutUint64(b, initiator)
		binary.BigEndian.PutUint64(b[8:], responder)
		b[17], b[19] = 0x20, flags
		binary.BigEndian.PutUint32(b[24:], 28)
		if marker {
			return append(make([]byte, 4), b...)
		}
		return b
	}
	const mine = 0x12345
	for name, test := range map[string]struct {
		data []byte
		want uint32
	}{
		"nothing":          {nil, 0},
		"keepalive":        {[]byte{0xff}, 0},
		"ESP":              {[]byte{0x12, 0x34, 0x5f, 0xff, 0}, mine},
		"IKE, port 500":    {ike(false, mine<<44|7, 0xffff<<44, 0x20), mine},
		"IKE, port 4500":   {ike(true, mine<<44|7, 0xffff<<44, 0x20), mine},
		"the gateway's SA": {ike(true, 0xffff<<44, mine<<44|7, 0x08), mine},
		"half a header":    {ike(true, mine<<44, 0, 0)[:20], 0},
	} {
		if got := numberOf(test.data); got != test.want {
			t.Errorf("%s: %#x, want %#x", name, got, test.want)
		}
	}
}

// Whoever writes to the port finds a device or none, and breaks nothing.
func FuzzNumberOf(f *testing.F) {
	f.Add([]byte{0xff})
	f.Add([]byte{0x12, 0x34, 0x5f, 0xff, 0})
	f.Add(append(make([]byte, 4), make([]byte, 28)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := numberOf(data); n >= 1<<numberBits {
			t.Errorf("number %#x", n)
		}
	})
}
