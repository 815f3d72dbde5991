package xfrm

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// body of the one message in a batch.
func body(t testing.TB, add func(b *batch)) []byte {
	t.Helper()
	var b batch
	add(&b)
	m, _, ok := nextMessage(b.buf)
	if !ok {
		t.Fatal("no message")
	}
	return m.body
}

// What is sent of an SA is read back, as the kernel does in its answers.
func TestParseSA(t *testing.T) {
	s := inbound(func(s *state) {
		s.esn = true
		s.replay.in, s.replay.out = 5<<32|7, 0
		s.replay.set(5<<32 | 7)
		s.limits.hard.Packets = 99
	})
	r, ok := parseSA(body(t, func(b *batch) { b.newSA(msgNewSA, s) }))
	if !ok || r.id != s.id || r.src != s.src || r.reqid != s.reqid || r.ifID != s.ifID || r.replay != s.replay || r.hardPackets != 99 {
		t.Errorf("read %+v, %t of %+v", r, ok, s)
	}
}

func TestParsePolicy(t *testing.T) {
	want := outKey(func(s *selector) { s.proto, s.sport, s.smask, s.dport, s.dmask = 17, 7, 0xFFFF, 4000, 0xFFF0 })
	key, ifID, ok := parsePolicy(body(t, func(b *batch) {
		b.putPolicy(msgNewPolicy, &policy{policyKey: want, ifID: 0x47, template: outTemplate()})
	}))
	if !ok || key != want || ifID != 0x47 {
		t.Errorf("read %+v, %#x, %t; want %+v", key, ifID, ok, want)
	}
}

func TestParseMapping(t *testing.T) {
	b := make([]byte, lenMapping)
	putSAID(b, stateID{gatewayAddr, 0x01020304})
	putAddr(b[28:], peerAddr)
	putAddr(b[44:], peerAddr.Next())
	network.PutUint16(b[60:], 4500)
	network.PutUint16(b[62:], 40001)
	want := mapping{stateID{gatewayAddr, 0x01020304}, netip.AddrPortFrom(peerAddr.Next(), 40001)}
	if m, ok := parseMapping(b); !ok || m != want {
		t.Errorf("read %+v, %t, want %+v", m, ok, want)
	}
}

// The window of the contract and the kernel's ring of bits are the same thing,
// over the seam of 2^32, too.
func TestReplayWindow(t *testing.T) {
	for _, highest := range []uint64{1, 5, 1023, 1024, 5000, 1<<32 - 1, 1 << 32, 1<<32 + 3} {
		s := dataplane.ChildState{NextSequence: 8, Replay: highest, ReplayWindow: make([]uint64, 16)}
		for i := uint64(0); i < min(highest, 1024); i += 3 {
			s.ReplayWindow[i/64] |= 1 << (i % 64)
		}
		r := replayOf(&s)
		if r.in != highest || r.out != 7 || !slices.Equal(r.window(), s.ReplayWindow) {
			t.Errorf("highest %#x: %+v\nwindow %x, want\n%x", highest, r, r.window(), s.ReplayWindow)
		}
	}
}

// FuzzParse feeds what a kernel could send, and couldn't, to everything that
// reads it.
func FuzzParse(f *testing.F) {
	seed := func(add func(b *batch)) {
		var b batch
		add(&b)
		f.Add(b.buf)
	}
	seed(func(b *batch) { b.newSA(msgNewSA, inbound(udp)) })
	seed(func(b *batch) { b.newSA(msgNewSA, outboundSA()); b.byID(msgDelSA, outboundSA().id) })
	seed(func(b *batch) {
		b.putPolicy(msgNewPolicy, &policy{policyKey: outKey(nil), ifID: 0x47, template: outTemplate()})
	})
	seed(func(b *batch) { b.newSPDInfo(thresholds{0, 32, 0, 128}) })
	seed(func(b *batch) { b.getReplay(outboundSA()) })
	seed(func(b *batch) { b.begin(msgExpire, 0); b.room(lenExpire)[lenSAInfo] = 1; b.end() })
	seed(func(b *batch) { b.begin(msgMapping, 0); putSAID(b.room(lenMapping), outboundSA().id); b.end() })
	seed(func(b *batch) {
		b.begin(msgDelSA, 0)
		putSAID(b.room(lenSAID), outboundSA().id)
		b.attr(attrSA, lenSAInfo)
		b.end()
	})
	seed(func(b *batch) { b.begin(unix.NLMSG_ERROR, 0); b.room(20); b.end() })
	f.Fuzz(func(t *testing.T, data []byte) {
		for {
			m, rest, ok := nextMessage(data)
			if !ok {
				return
			}
			if len(rest) >= len(data) {
				t.Fatal("no progress")
			}
			data = rest
			if r, ok := parseSA(m.body); ok {
				r.replay.window()
			}
			parseDeleted(m.body)
			parseExpire(m.body)
			parseMapping(m.body)
			parseAE(m.body)
			parseThresholds(m.body)
			errorOf(m.body)
			if key, _, ok := parsePolicy(m.body); ok {
				// What was read can be asked to be removed.
				var b batch
				b.delPolicy(key, 1)
			}
		}
	})
}
