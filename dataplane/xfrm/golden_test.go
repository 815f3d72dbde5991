package xfrm

import (
	"bytes"
	"embed"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

// goldens go with the test binary, into a virtual machine too.
//
//go:embed testdata/ip
var goldens embed.FS

// golden is a message that ip(8) sends, see testdata/capture.sh.
type golden struct {
	kind  string
	fixed []byte
	attrs map[uint16][]byte
}

func readGolden(t *testing.T, name string, fixed int) golden {
	t.Helper()
	text, err := goldens.ReadFile("testdata/ip/" + name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 4 {
		t.Fatalf("%s has %d lines", name, len(lines))
	}
	body, err := hex.DecodeString(lines[3])
	if err != nil || len(body) < fixed {
		t.Fatalf("%s: %d octets, %v", name, len(body), err)
	}
	g := golden{kind: lines[1], fixed: body[:fixed], attrs: map[uint16][]byte{}}
	for kind, value := range attributes(body[fixed:]) {
		g.attrs[kind] = value
	}
	return g
}

// kinds as strace writes them.
var kinds = map[uint16]string{
	msgNewSA: "XFRM_MSG_NEWSA", msgUpdSA: "XFRM_MSG_UPDSA", msgDelSA: "XFRM_MSG_DELSA", msgGetSA: "XFRM_MSG_GETSA",
	msgNewPolicy: "XFRM_MSG_NEWPOLICY", msgUpdPolicy: "XFRM_MSG_UPDPOLICY", msgDelPolicy: "XFRM_MSG_DELPOLICY",
	msgNewSPDInfo: "XFRM_MSG_NEWSPDINFO", msgGetSPDInfo: "XFRM_MSG_GETSPDINFO",
}

var (
	gatewayAddr = netip.MustParseAddr("203.0.113.1")
	peerAddr    = netip.MustParseAddr("203.0.113.7")
	gcm128      = dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}
	cbc128      = dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA256}
)

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// inbound is the SA of testdata/capture.sh, changed by edit.
func inbound(edit func(*state)) *state {
	s := &state{
		id: stateID{gatewayAddr, 0x01020304}, src: peerAddr, reqid: reqidFirst | 7, ifID: 0x47,
		alg: gcm128, keys: dataplane.Keys{Encryption: counting(20)},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

func outboundSA() *state {
	return inbound(func(s *state) {
		s.id, s.src, s.outbound = stateID{peerAddr, 0xC0FFEE01}, gatewayAddr, true
		s.alg, s.keys = cbc128, dataplane.Keys{Encryption: counting(16), Integrity: counting(32)}
	})
}

func udp(s *state) { s.sport, s.dport = 40000, 4500 }

func outTemplate() template {
	return template{src: gatewayAddr, dst: peerAddr, spi: 0xC0FFEE01, reqid: reqidFirst | 7}
}

func outKey(edit func(*selector)) policyKey {
	k := policyKey{dirOut, selector{src: netip.MustParsePrefix("10.2.0.0/16"), dst: netip.MustParsePrefix("10.9.0.7/32")}}
	if edit != nil {
		edit(&k.sel)
	}
	return k
}

func shared(d direction, pool, to string) *policy {
	return &policy{policyKey: policyKey{d, selector{src: netip.MustParsePrefix(pool), dst: netip.MustParsePrefix(to)}}, ifID: 0x47, priority: priorityShared}
}

// Each message is what ip(8) sends, but for the order of attributes and what is
// listed: that ip 6.1 doesn't know (direction, age of mappings), or that it says
// more than it has to (the type of a policy where it is the usual one; the source
// of an SA that is known without; a replay state for one that has begun nothing).
func TestMessagesAreThoseOfIP(t *testing.T) {
	for _, c := range []struct {
		name   string
		fixed  int
		add    func(b *batch)
		less   []uint16 // attributes that ip sends, and we don't
		beyond []uint16 // attributes that ip doesn't know, or leaves to the kernel
	}{
		{"newsa-udp", lenSAInfo, func(b *batch) {
			b.newSA(msgNewSA, inbound(func(s *state) {
				udp(s)
				s.esn, s.replay.in = true, 1<<32+0x10
				s.limits = limits{soft: dataplane.Limits{Bytes: 1000, Packets: 30}, hard: dataplane.Limits{Bytes: 2000, Packets: 40}}
			}))
		}, nil, []uint16{attrMappingAge}},
		{"updsa-udp", lenSAInfo, func(b *batch) { b.newSA(msgUpdSA, inbound(udp)) }, nil, []uint16{attrMappingAge}},
		{"newsa-raw-out", lenSAInfo, func(b *batch) { b.newSA(msgNewSA, outboundSA()) }, nil, []uint16{attrReplayESN}},
		{"newsa-selector", lenSAInfo, func(b *batch) {
			b.newSA(msgNewSA, inbound(func(s *state) { s.source = netip.MustParseAddr("10.9.0.7") }))
		}, nil, nil},
		{"newsa-ipv6", lenSAInfo, func(b *batch) {
			b.newSA(msgNewSA, inbound(func(s *state) {
				s.id.dst, s.src = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::7")
			}))
		}, nil, nil},
		{"newsa-offload", lenSAInfo, func(b *batch) {
			b.newSA(msgNewSA, inbound(func(s *state) { s.offload = 1 }))
		}, nil, nil},
		{"delsa", lenSAID, func(b *batch) { b.byID(msgDelSA, inbound(nil).id) }, []uint16{13}, nil},
		{"getsa", lenSAID, func(b *batch) { b.byID(msgGetSA, outboundSA().id) }, []uint16{13}, nil},
		{"newpolicy-out", lenPolicyInfo, func(b *batch) {
			k := outKey(nil)
			b.putPolicy(msgNewPolicy, &policy{policyKey: k, ifID: 0x47, priority: k.sel.priority(), template: outTemplate()})
		}, []uint16{attrPolicyType}, nil},
		{"updpolicy-ports", lenPolicyInfo, func(b *batch) {
			k := outKey(func(s *selector) { s.proto, s.sport, s.smask, s.dport, s.dmask = 17, 7, 0xFFFF, 4000, 0xFFFF })
			b.putPolicy(msgUpdPolicy, &policy{policyKey: k, ifID: 0x47, priority: k.sel.priority(), template: outTemplate()})
		}, []uint16{attrPolicyType}, nil},
		{"newpolicy-in", lenPolicyInfo, func(b *batch) { b.putPolicy(msgNewPolicy, shared(dirIn, "10.9.0.0/24", "0.0.0.0/0")) }, []uint16{attrPolicyType}, nil},
		{"newpolicy-fwd6", lenPolicyInfo, func(b *batch) { b.putPolicy(msgNewPolicy, shared(dirFwd, "fd00:9::/64", "::/0")) }, []uint16{attrPolicyType}, nil},
		{"newpolicy-block", lenPolicyInfo, func(b *batch) {
			p := shared(dirFwd, "10.9.0.7/32", "0.0.0.0/0")
			p.block, p.priority = true, priorityBlock
			b.putPolicy(msgNewPolicy, p)
		}, []uint16{attrPolicyType}, nil},
		{"delpolicy", lenPolicyID, func(b *batch) { b.delPolicy(outKey(nil), 0x47) }, []uint16{attrPolicyType}, nil},
		{"newspdinfo", 4, func(b *batch) { b.newSPDInfo(thresholds{0, 32, 0, 128}) }, nil, nil},
		{"getspdinfo", 4, func(b *batch) { b.getSPDInfo() }, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := readGolden(t, c.name, c.fixed)
			var b batch
			c.add(&b)
			m, rest, ok := nextMessage(b.buf)
			if !ok || len(rest) != 0 {
				t.Fatalf("not one message: %x", b.buf)
			}
			if kinds[m.kind] != want.kind {
				t.Errorf("type %q, want %q", kinds[m.kind], want.kind)
			}
			if got := m.body[:c.fixed]; !bytes.Equal(got, want.fixed) {
				t.Errorf("fixed part\n%x, want\n%x", got, want.fixed)
			}
			got := map[uint16][]byte{}
			for kind, value := range attributes(m.body[c.fixed:]) {
				got[kind] = value
			}
			for _, kind := range c.less {
				delete(want.attrs, kind)
			}
			for _, kind := range c.beyond {
				if _, there := got[kind]; !there {
					t.Errorf("attribute %d isn't there", kind)
				}
				delete(got, kind)
			}
			if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want.attrs)); !slices.Equal(g, w) {
				t.Errorf("attributes %d, want %d", g, w)
			}
			// ip leaves the bitmap away, we send it; here it is empty.
			if r, ok := got[attrReplayESN]; ok {
				if bitmap := r[lenReplayESN:]; !bytes.Equal(bitmap, make([]byte, len(bitmap))) {
					t.Errorf("bitmap %x", bitmap)
				}
				got[attrReplayESN] = r[:lenReplayESN]
			}
			for kind, value := range want.attrs {
				if !bytes.Equal(got[kind], value) {
					t.Errorf("attribute %d\n%x, want\n%x", kind, got[kind], value)
				}
			}
		})
	}
}

// What ip 6.1 can't send is written down from include/uapi/linux/xfrm.h: GETAE,
// which ip has no command for; the direction and the age of mappings, which are
// younger; the window of an outbound SA with a direction, which is none; and the
// use of an SA that goes on where another ended.
func TestMessagesBeyondIP(t *testing.T) {
	var b batch
	b.getReplay(outboundSA())
	m, _, _ := nextMessage(b.buf)
	want := "cb007107000000000000000000000000" + "c0ffee01" + "0200" + "32" + "00" + // id: daddr, spi, family, proto
		"cb007101000000000000000000000000" + "06000000" + "07000052" // saddr, XFRM_AE_RVAL|XFRM_AE_LVAL, reqid
	if got := hex.EncodeToString(m.body); m.kind != msgGetAE || got != want {
		t.Errorf("GETAE type %#x\n%s, want\n%s", m.kind, got, want)
	}

	attr := func(s *state, kind uint16) string {
		var b batch
		b.newSA(msgNewSA, s)
		m, _, _ := nextMessage(b.buf)
		for k, value := range attributes(m.body[lenSAInfo:]) {
			if k == kind {
				return hex.EncodeToString(value)
			}
		}
		return "none"
	}
	out := outboundSA()
	out.directed, out.esn = true, true
	out.replay.out = 1<<32 + 5
	out.lifetime = lifetime{bytes: 0x100, packets: 2, used: 0x66}
	in := inbound(func(s *state) { s.directed = true; udp(s) })
	for _, c := range []struct {
		name string
		s    *state
		kind uint16
		want string
	}{
		{"XFRMA_SA_DIR out", out, attrDirection, "02"},
		{"XFRMA_SA_DIR in", in, attrDirection, "01"},
		{"XFRMA_MTIMER_THRESH", in, attrMappingAge, "01000000"},
		// bmp_len, oseq, seq, oseq_hi, seq_hi, replay_window
		{"XFRMA_REPLAY_ESN_VAL out", out, attrReplayESN, "00000000" + "05000000" + "00000000" + "01000000" + "00000000" + "00000000"},
		{"XFRMA_LTIME_VAL", out, attrLifetime, "0001000000000000" + "0200000000000000" + "6600000000000000" + "6600000000000000"},
	} {
		if got := attr(c.s, c.kind); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
