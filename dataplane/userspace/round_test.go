package userspace

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// TestRoundOfManySAs: packets of SAs with different algorithms, more than there are
// places for ciphers, come in one round, with repetitions, forgeries and packets for
// nobody among them, and others go out in one. Each has its verdict as if it had come
// alone, and what goes out is in order and opens.
func TestRoundOfManySAs(t *testing.T) {
	const rounds, each = 20, 6
	h := newHarness(t, make(chan dataplane.Event, 16), func(c *Config) { c.ActiveChildren = 2 })
	var peers []*peer
	for i, edit := range []func(*dataplane.Child){
		func(*dataplane.Child) {},
		func(c *dataplane.Child) { c.ESN = true },
		func(c *dataplane.Child) { withAlgorithm(c, dataplane.EncryptionAESGCM16, 256, 0) },
		func(c *dataplane.Child) { withAlgorithm(c, dataplane.EncryptionChaCha20Poly1305, 0, 0) },
		func(c *dataplane.Child) {
			withAlgorithm(c, dataplane.EncryptionAESCBC, 128, dataplane.IntegrityHMACSHA256)
		},
	} {
		peers = append(peers, newPeer(t, h, func(c *dataplane.Child) {
			c.VirtualIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + i)})}
			edit(c)
		}))
	}
	l := h.backend.loops[0]
	var replays, forgeries, strangers uint64
	for round := range rounds {
		stopped(t, l, func() { // all of it waits when the loop goes on
			for k := range each {
				for _, p := range peers {
					ip := up4
					ip.Src = p.child.VirtualIPs[0]
					inner := ip.UDP(1, 2, bytes.Repeat([]byte{byte(k)}, 100*k+round))
					p.queue(inner, protoIPv4, 0)
					switch k {
					case 1: // once more, at once
						p.next--
						p.queue(inner, protoIPv4, 0)
						replays++
					case 2: // its ICV is wrong, so its number isn't used
						p.forge(inner)
						forgeries++
					case 3:
						p.sender.Push(copy(p.sender.Buffer(), []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 2, 3}), p.Encap, 0)
						strangers++
					}
					p.flush()
				}
			}
		})
		seen := make(map[netip.Addr]int)
		for range each * len(peers) {
			packet := peers[0].inside()
			src := netip.AddrFrom4([4]byte(packet[12:16]))
			k := seen[src]
			if seen[src]++; len(packet) != 28+100*k+round || k > 0 && packet[28] != byte(k) {
				t.Fatalf("packet %d of %v has %d octets: %x", k, src, len(packet), packet[:28])
			}
		}
		stopped(t, l, func() {
			for k := range each {
				for _, p := range peers {
					ip := down4
					ip.Dst = p.child.VirtualIPs[0]
					if err := h.pipe.Send(ip.UDP(2, 1, bytes.Repeat([]byte{byte(k)}, 100*k+round))); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
		for _, p := range peers {
			for k := range each {
				if inner, _ := p.arrival(); len(inner) != 28+100*k+round || k > 0 && inner[28] != byte(k) {
					t.Fatalf("packet %d has %d octets", k, len(inner))
				}
			}
		}
	}
	drops := h.dropped(t, dataplane.ReasonReplay, replays)
	if want := (dataplane.Drops{dataplane.ReasonReplay: replays, dataplane.ReasonIntegrity: forgeries, dataplane.ReasonUnknownSPI: strangers}); drops != want {
		t.Errorf("drops %v, want %v", drops, want)
	}
	for c := range h.backend.Counters {
		if c.PacketsIn != rounds*each || c.PacketsOut != rounds*each {
			t.Errorf("%+v", c)
		}
	}
}

func withAlgorithm(c *dataplane.Child, encryption, bits, integrity uint16) {
	c.Algorithm = dataplane.Algorithm{Encryption: encryption, KeyBits: bits, Integrity: integrity}
	e, i, _ := c.Algorithm.KeyLengths()
	for _, k := range []*dataplane.Keys{&c.Inbound.Keys, &c.Outbound.Keys} {
		k.Encryption, k.Integrity = bytes.Repeat([]byte{7}, e), bytes.Repeat([]byte{8}, i)
	}
}

// stopped has f called while the loop does nothing else.
func stopped(t *testing.T, l *loop, f func()) {
	t.Helper()
	if err := l.do(f); err != nil {
		t.Fatal(err)
	}
}

// forge queues what has the next sequence number and a wrong ICV.
func (p *peer) forge(inner []byte) {
	b := p.sender.Buffer()
	copy(b[p.seal.HeaderLen():], inner)
	sealed := p.seal.Seal(b, len(inner), protoIPv4, uint32(p.child.Inbound.SPI), p.next)
	sealed[len(sealed)-1] ^= 1
	p.sender.Push(len(sealed), p.Encap, 0)
}

// TestClassesInARound: what is no ESP keeps its turn among packets that are.
func TestClassesInARound(t *testing.T) {
	p := newPeer(t, newHarness(t, make(chan dataplane.Event, 16), nil), nil)
	message := append(make([]byte, encap.MarkerLen), bytes.Repeat([]byte{1}, 40)...)
	stopped(t, p.backend.loops[0], func() {
		for range 10 {
			p.queue(up4.UDP(1, 2, nil), protoIPv4, 0)
			p.raw([]byte{0xff}, p.Encap)
			p.raw(binary.BigEndian.AppendUint32(nil, uint32(p.child.Inbound.SPI)), p.Encap) // cut short
			p.raw(message, p.Encap)
		}
	})
	for range 10 {
		p.inside()
	}
	for came := 0; came < 10; {
		messages := make([]dataplane.Datagram, 16)
		for i := range messages {
			messages[i].Data = make([]byte, 100)
		}
		n, err := p.backend.Transport().Receive(messages)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages[:n] {
			if !bytes.Equal(m.Data, message[encap.MarkerLen:]) {
				t.Errorf("%x", m.Data)
			}
		}
		came += n
	}
	p.dropped(t, dataplane.ReasonShort, 10)
}
