package userspace

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// causes has what makes the loop drop something for each reason.
var causes = map[dataplane.Reason]func(*peer){
	dataplane.ReasonOutsideQueueFull: func(p *peer) {
		busy, over := make(chan struct{}), make(chan struct{})
		go p.backend.loops[0].do(func() { close(busy); <-over })
		<-busy
		defer close(over)
		socket := p.backend.loops[0].locals[0].Encap
		for lost := uint32(0); lost == 0; {
			for range 64 {
				p.raw([]byte{0xFF}, p.Encap) // nothing comes of a keepalive
			}
			var err error
			if lost, err = socket.Lost(); err != nil {
				p.t.Fatal(err)
			}
		}
	},
	dataplane.ReasonInsideQueueFull: func(p *peer) { p.pipe.overflowed.Add(1) }, // the real one: TestOverflow of package tun
	dataplane.ReasonTruncated: func(p *peer) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		defer unix.Close(fd)
		to := &unix.SockaddrInet4{Port: int(p.Encap.Port()), Addr: p.Encap.Addr().As4()}
		if err := unix.Sendto(fd, make([]byte, 20_000), 0, to); err != nil {
			p.t.Fatal(err)
		}
	},
	dataplane.ReasonShort:       func(p *peer) { p.raw([]byte{1, 2, 3}, p.Encap) },
	dataplane.ReasonOuterInside: func(p *peer) { p.from("127.66.0.9:0", []byte("IKE"), p.IKE) },
	dataplane.ReasonIKEQueueFull: func(p *peer) {
		for range ikeQueueOctets/16000 + 1 {
			p.raw(append([]byte("nobody calls Receive"), make([]byte, 16000)...), p.IKE)
		}
	},
	dataplane.ReasonOwnerBehind: func(p *peer) {
		owner := int(loopOf(p.child.Inbound.SPI))
		busy, over := make(chan struct{}), make(chan struct{})
		go p.backend.loops[owner].do(func() { close(busy); <-over })
		<-busy
		defer close(over)
		other := p.backend.loops[1-owner]
		for lost := false; !lost; {
			if err := other.inside.(*pipe).Send(down4.UDP(1, 2, make([]byte, 1200))); err != nil && !errors.Is(err, unix.EAGAIN) {
				p.t.Fatal(err)
			}
			other.do(func() { lost = other.drops[dataplane.ReasonOwnerBehind] > 0 })
		}
	},
	dataplane.ReasonUnknownSPI: func(p *peer) { p.raw([]byte{1, 2, 3, 4, 5, 6, 7, 8}, p.Encap) },
	dataplane.ReasonReplay: func(p *peer) {
		for range 2 {
			p.next = 9
			p.up(up4.UDP(1, 2, nil), 0)
		}
	},
	dataplane.ReasonReplayOld: func(p *peer) {
		p.next = 2000
		p.up(up4.UDP(1, 2, nil), 0)
		p.next = 1
		p.up(up4.UDP(1, 2, nil), 0)
	},
	dataplane.ReasonIntegrity: func(p *peer) {
		packet := make([]byte, p.seal.SealedLen(20))
		packet = p.seal.Seal(packet, 20, protoIPv4, uint32(p.child.Inbound.SPI), 1)
		packet[len(packet)-1] ^= 1
		p.raw(packet, p.Encap)
	},
	dataplane.ReasonPadding:    func(p *peer) { p.raw(badPadding(p), p.Encap) },
	dataplane.ReasonNextHeader: func(p *peer) { p.queue(up4.UDP(1, 2, nil), protoTCP, 0); p.flush() },
	dataplane.ReasonHardLimit: func(p *peer) {
		p.up(up4.UDP(1, 2, nil), 0)
		p.up(up4.UDP(1, 2, nil), 0)
	},
	dataplane.ReasonInnerMalformed: func(p *peer) {
		inner := up4.UDP(1, 2, nil)
		inner[3]++ // total length
		p.up(inner, 0)
	},
	dataplane.ReasonInnerSource: func(p *peer) { p.up(down4.UDP(1, 2, nil), 0) },
	dataplane.ReasonSelectorIn: func(p *peer) {
		away := up4
		away.Dst = netip.MustParseAddr("10.3.0.1")
		p.up(away.UDP(1, 2, nil), 0)
	},
	dataplane.ReasonECN: func(p *peer) { p.up(up4.UDP(1, 2, nil), ce) },
	dataplane.ReasonInsideWrite: func(p *peer) {
		for p.backend.Drops()[dataplane.ReasonInsideWrite] == 0 {
			p.up(up4.UDP(1, 2, make([]byte, 1200)), 0) // nobody reads them
		}
	},
	dataplane.ReasonInsideMalformed: func(p *peer) { p.sendInside(make([]byte, 40)) },
	dataplane.ReasonNoChild: func(p *peer) {
		stranger := down4
		stranger.Dst = virtual4.Next()
		p.sendInside(stranger.UDP(1, 2, nil))
	},
	dataplane.ReasonSelectorOut: func(p *peer) {
		stranger := down4
		stranger.Src = netip.MustParseAddr("10.3.0.1")
		p.sendInside(stranger.UDP(1, 2, nil))
	},
	dataplane.ReasonTooBig: func(p *peer) {
		whole := down4
		whole.DontFragment = true
		p.sendInside(whole.UDP(1, 2, make([]byte, 1500)))
	},
	dataplane.ReasonSequenceExhausted: func(p *peer) {
		p.sendInside(down4.UDP(1, 2, nil)) // number 2^32-1
		p.sendInside(down4.UDP(1, 2, nil))
	},
	dataplane.ReasonOutsideSend: func(p *peer) {
		path := p.child.Path
		path.Remote = netip.MustParseAddrPort("127.255.255.255:4500") // broadcast
		p.apply(dataplane.Move{Inbound: p.child.Inbound.SPI, Path: path})
		p.sendInside(down4.UDP(1, 2, nil))
	},
	dataplane.ReasonEventsLost: func(p *peer) { p.up(up4.UDP(1, 2, nil), 0) }, // a soft limit
}

// grounds has what a cause needs of the child.
var grounds = map[dataplane.Reason]func(*dataplane.Child){
	dataplane.ReasonHardLimit:  func(c *dataplane.Child) { c.Hard.Packets = 1 },
	dataplane.ReasonEventsLost: func(c *dataplane.Child) { c.Soft.Packets = 1 },
}

// TestEveryReason: every reason has a cause, and the cause no other effect.
func TestEveryReason(t *testing.T) {
	for i := range dataplane.NumReasons {
		reason := dataplane.Reason(i)
		t.Run(reason.String(), func(t *testing.T) {
			cause, ok := causes[reason]
			if !ok {
				t.Fatalf("nothing here causes a drop for %v", reason)
			}
			room := 16
			if reason == dataplane.ReasonEventsLost {
				room = 0
			}
			var edit func(*Config)
			if reason == dataplane.ReasonOwnerBehind {
				edit = withLoops(t, 2)
			}
			p := newPeer(t, newHarness(t, make(chan dataplane.Event, room), edit), grounds[reason])
			if reason == dataplane.ReasonSequenceExhausted {
				p.skipTo(1<<32 - 1)
			}
			if drops := p.backend.Drops(); drops != (dataplane.Drops{}) {
				t.Fatalf("drops before the cause: %v", drops)
			}
			cause(p)
			var want dataplane.Drops
			got := p.dropped(t, reason, 1)
			want[reason] = got[reason]
			if got != want {
				t.Errorf("drops %v, want only %v", got, reason)
			}
		})
	}
}

func (p *peer) sendInside(packet []byte) {
	p.t.Helper()
	if err := p.pipe.Send(packet); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) apply(c dataplane.Change) {
	p.t.Helper()
	if errs := p.backend.Apply([]dataplane.Change{c}); errs[0] != nil {
		p.t.Fatal(errs[0])
	}
}

// skipTo replaces the child by one that has used up its sequence numbers below
// next, as if imported.
func (p *peer) skipTo(next uint64) {
	p.t.Helper()
	p.apply(dataplane.Remove{Inbound: p.child.Inbound.SPI})
	state := dataplane.ChildState{Child: p.child, Active: true, NextSequence: next}
	state.Child.Inbound.SPI = makeSPI(1, 0, slotOf(p.child.Inbound.SPI), 0)
	if err := p.backend.Import([]dataplane.ChildState{state}); err != nil {
		p.t.Fatal(err)
	}
	p.child = state.Child
}

// badPadding is an authentic packet whose pad length exceeds it.
func badPadding(p *peer) []byte {
	key := p.child.Inbound.Keys.Encryption
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		p.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		p.t.Fatal(err)
	}
	packet := make([]byte, 16)
	binary.BigEndian.PutUint32(packet, uint32(p.child.Inbound.SPI))
	binary.BigEndian.PutUint32(packet[4:], 1)
	nonce := append(append([]byte(nil), key[16:]...), packet[8:16]...)
	return aead.Seal(packet, nonce, []byte{0, 0, 0xFF, protoIPv4}, packet[:8])
}
