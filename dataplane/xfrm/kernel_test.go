package xfrm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/integration/netns"
)

var host = netip.MustParseAddr("10.2.0.2")

// childOf describes a Child SA of a device with one virtual address, under an SPI
// that is reserved here.
func childOf(t testing.TB, g *ground, virtual netip.Addr, remote netip.AddrPort) dataplane.Child {
	t.Helper()
	spi, err := g.backend.Reserve(virtual)
	check(t, err)
	keys := func() dataplane.Keys {
		k := make([]byte, 20)
		rand.Read(k)
		return dataplane.Keys{Encryption: k}
	}
	var out [4]byte
	rand.Read(out[:])
	return dataplane.Child{
		Inbound:    dataplane.SA{SPI: spi, Keys: keys()},
		Outbound:   dataplane.SA{SPI: dataplane.SPI(binary.BigEndian.Uint32(out[:]) | 1<<31), Keys: keys()},
		Algorithm:  gcm128,
		ESN:        true,
		VirtualIPs: []netip.Addr{virtual},
		Local:      []dataplane.Selector{{First: netip.IPv4Unspecified(), Last: netip.MustParseAddr("255.255.255.255"), LastPort: 0xFFFF}},
		Remote:     []dataplane.Selector{{First: virtual, Last: virtual, LastPort: 0xFFFF}},
		Path:       dataplane.Path{Local: netip.AddrPortFrom(g.here4, 4500), Remote: remote},
	}
}

func install(t testing.TB, b *Backend, children ...dataplane.Child) {
	t.Helper()
	var changes []dataplane.Change
	for _, c := range children {
		changes = append(changes, dataplane.Install{Child: c}, dataplane.UseOutbound{Inbound: c.Inbound.SPI})
	}
	check(t, b.Apply(changes)...)
}

// census counts the policies by direction, and the SAs, of an interface.
func census(t testing.TB, b *Backend, ifID uint32) (policies map[direction]int, states int) {
	t.Helper()
	policies = make(map[direction]int)
	check(t, b.conn.dump(msgGetPolicy, func(m message) {
		if key, id, ok := parsePolicy(m.body); ok && id == ifID {
			policies[key.dir]++
		}
	}), b.conn.dump(msgGetSA, func(m message) {
		if r, ok := parseSA(m.body); ok && r.ifID == ifID {
			states++
		}
	}))
	return policies, states
}

// N devices with addresses of one family cost N + 2 policies, and the SA keeps
// each to its address.
func TestXFRMDevicesCostOnePolicyEach(t *testing.T) {
	netns.NeedKernelIPsec(t)
	g := newGround(t, newField(t))
	g.config.Pools = pools[:1]
	g.start(t, make(chan dataplane.Event, 16))
	conn, err := g.field.ListenPacket("udp4", g.there4)
	check(t, err)
	defer conn.Close()
	remote := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	const devices = 5
	var children []dataplane.Child
	virtual := netip.MustParseAddr("10.9.0.10")
	for range devices {
		children = append(children, childOf(t, g, virtual, remote))
		virtual = virtual.Next()
	}
	install(t, g.backend, children...)
	policies, states := census(t, g.backend, testIfID)
	if policies[dirIn] != 1 || policies[dirFwd] != 1 || policies[dirOut] != devices || states != 2*devices {
		t.Errorf("%d devices: policies %v, %d SAs", devices, policies, states)
	}

	send := func(c *dataplane.Child, seq uint64, src netip.Addr) {
		t.Helper()
		seal, err := esp.New(c.Algorithm, c.Inbound.Keys, c.ESN)
		check(t, err)
		inner := dptest.IP{Src: src, Dst: host}.UDP(1, 2, []byte(src.String()))
		packet := make([]byte, seal.SealedLen(len(inner)))
		copy(packet[seal.HeaderLen():], inner)
		_, err = conn.WriteTo(seal.Seal(packet, len(inner), 4, uint32(c.Inbound.SPI), seq), net.UDPAddrFromAddrPort(c.Path.Local))
		check(t, err)
	}
	before := g.backend.Drops()
	send(&children[0], 1, children[1].VirtualIPs[0]) // another's address
	send(&children[0], 2, netip.MustParseAddr("10.9.0.200"))
	send(&children[0], 3, children[0].VirtualIPs[0])
	for {
		p, ok := g.Receive(10 * time.Second)
		if !ok {
			t.Fatal("nothing came to the inside")
		}
		if p[0] == 0x45 { // not of the kernel's own
			if !bytes.HasSuffix(p, []byte(children[0].VirtualIPs[0].String())) {
				t.Errorf("inside got %q", p)
			}
			break
		}
	}
	if n := g.backend.Drops()[dataplane.ReasonSelectorIn] - before[dataplane.ReasonSelectorIn]; n != 2 {
		t.Errorf("%d packets with another source were dropped, want 2", n)
	}

	for _, c := range children {
		check(t, g.backend.Apply([]dataplane.Change{dataplane.Remove{Inbound: c.Inbound.SPI}})...)
	}
	if policies, states := census(t, g.backend, testIfID); policies[dirOut] != 0 || states != 0 {
		t.Errorf("after the removal: policies %v, %d SAs", policies, states)
	}
}

// What others have put into the kernel stays, whether the backend ends well or
// not; what is ours goes.
func TestXFRMOthersStay(t *testing.T) {
	netns.NeedKernelIPsec(t)
	g := newGround(t, newField(t))
	other, err := func() (c *conn, err error) {
		err = g.Do(func() error { c, err = dial(); return err })
		return c, err
	}()
	check(t, err)
	defer other.close()
	foreign := trial(documentation4, gcm128)
	foreign.ifID, foreign.reqid = testIfID+1, 5
	sameInterface := trial(documentation4, gcm128)
	sameInterface.ifID, sameInterface.reqid = testIfID, 5 // not a reqid of ours
	sameReqid := trial(documentation4, gcm128)
	sameReqid.reqid = reqidFirst | 1
	var q batch
	for _, s := range []*state{foreign, sameInterface, sameReqid} {
		q.newSA(msgNewSA, s)
	}
	q.putPolicy(msgNewPolicy, &policy{policyKey: outKey(nil), ifID: testIfID + 1, template: outTemplate()})
	check(t, other.do(&q, nil)...)

	h := g.start(t, make(chan dataplane.Event, 16))
	install(t, g.backend, childOf(t, g, netip.MustParseAddr("10.9.0.10"), netip.MustParseAddrPort("192.0.2.9:4500")))
	crashed := g.backend
	h.Crash(t, make(chan dataplane.Event, 16))
	if g.backend == crashed {
		t.Fatal("nothing crashed")
	}
	if policies, states := census(t, g.backend, testIfID); len(policies) != 0 || states != 1 {
		t.Errorf("after the crash: policies %v, %d SAs, want none and that of somebody else", policies, states)
	}
	install(t, g.backend, childOf(t, g, netip.MustParseAddr("10.9.0.10"), netip.MustParseAddrPort("192.0.2.9:4500")))
	check(t, g.backend.Close())

	left := map[uint32]int{}
	check(t, other.dump(msgGetSA, func(m message) {
		if r, ok := parseSA(m.body); ok {
			left[r.ifID]++
		}
	}))
	if left[testIfID] != 1 || left[testIfID+1] != 1 || left[0] != 1 {
		t.Errorf("SAs by interface: %v, want one of each", left)
	}
	policies := 0
	check(t, other.dump(msgGetPolicy, func(m message) {
		if _, id, ok := parsePolicy(m.body); ok && id != 0 {
			policies++
		}
	}))
	if policies != 1 {
		t.Errorf("%d policies are left, want the other's", policies)
	}
	q.getSPDInfo()
	check(t, other.do(&q, func(_ int, m message) {
		if got, ok := parseThresholds(m.body); !ok || got != (thresholds{32, 32, 128, 128}) {
			t.Errorf("thresholds %+v, want those from before", got)
		}
	})...)
}

// A device that goes from address to address under load loses nothing to a
// missing SA, and no sequence number comes twice.
func TestXFRMMoveUnderLoad(t *testing.T) {
	netns.NeedKernelIPsec(t)
	g := newGround(t, newField(t))
	h := g.start(t, make(chan dataplane.Event, 16))
	virtual := netip.MustParseAddr("10.9.0.10")
	type arrival struct {
		seq uint32
		at  int
	}
	arrivals := make(chan arrival, 1<<16)
	var conns []net.PacketConn
	for i := range 2 {
		_, conn := h.Raw(t) // each time at another address
		defer conn.Close()
		conns = append(conns, conn)
		go func() {
			b := make([]byte, 2048)
			for {
				n, _, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				if n > 8 {
					arrivals <- arrival{binary.BigEndian.Uint32(b[4:]), i}
				}
			}
		}()
	}
	addr := func(i int) netip.AddrPort { return conns[i].LocalAddr().(*net.UDPAddr).AddrPort() }
	c := childOf(t, g, virtual, addr(0))
	install(t, g.backend, c)

	stop, stopped := make(chan struct{}), make(chan struct{})
	sent := 0
	go func() {
		defer close(stopped)
		down := dptest.IP{Src: host, Dst: virtual}.UDP(1, 2, []byte("load"))
		for {
			select {
			case <-stop:
				return
			default:
				if g.Send(down) == nil {
					sent++
				}
			}
		}
	}()
	const moves = 30
	for i := range moves {
		path := c.Path
		path.Remote = addr((i + 1) % 2)
		check(t, g.backend.Apply([]dataplane.Change{dataplane.Move{Inbound: c.Inbound.SPI, Path: path}})...)
		time.Sleep(2 * retirement)
	}
	close(stop)
	<-stopped
	time.Sleep(100 * time.Millisecond) // what is under way arrives
	counters := dataplane.ChildCounters{}
	check(t, g.backend.Apply([]dataplane.Change{dataplane.Remove{Inbound: c.Inbound.SPI, Final: &counters}})...)
	var stats []byte
	check(t, g.Do(func() (err error) { stats, err = os.ReadFile("/proc/thread-self/net/xfrm_stat"); return err }))
	for line := range strings.Lines(string(stats)) {
		if f := strings.Fields(line); strings.HasSuffix(f[0], "NoStates") && f[1] != "0" {
			t.Errorf("%s", line)
		}
	}
	seen, places := map[uint32]bool{}, map[int]int{}
	for len(arrivals) > 0 {
		a := <-arrivals
		if seen[a.seq] {
			t.Errorf("sequence number %d twice", a.seq)
		}
		seen[a.seq] = true
		places[a.at]++
	}
	if places[0] == 0 || places[1] == 0 || counters.PacketsOut < uint64(len(seen)) {
		t.Errorf("%v packets came to the addresses, %+v", places, counters)
	}
	t.Logf("%d moves, %d packets sent, %d counted, %v arrived", moves, sent, counters.PacketsOut, places)
}
