package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// plane is what the gateway of the tests needs of a data plane: a real backend,
// or one in memory.
type plane interface {
	Reserve(hint netip.Addr) (dataplane.SPI, error)
	Apply(changes []dataplane.Change) []error
	Transport() dataplane.IKETransport
}

// gateway runs responders on a data plane, on one goroutine, without any of
// what protects a real one. Certificates are its own and its devices'.
type gateway struct {
	t      *testing.T
	cfg    *ike.Config
	roots  *x509.CertPool
	root   *x509.Certificate
	key    crypto.Signer
	plane  plane
	events chan dataplane.Event
	orders chan func()
	quit   chan struct{}
	ended  chan struct{}

	// Owned by run.
	machines []*machine
	inputs   []input
	stepping bool
	next     netip.Addr
	closed   []ike.Closed
	noted    map[ike.Note]int
	moved    int
	told     func(ike.Output) // sees every output, or nil
}

var (
	lan     = netip.MustParseAddr("10.2.0.2")
	modern  = []string{"aes256gcm16-prfsha384-ecp384", "aes256-sha256-ecp384-modp2048", "aes128gcm16-prfsha256-curve25519"}
	lanESP  = []string{"aes256gcm16-aes128gcm16", "aes256-aes128-sha256"}
	gwIKE   = netip.MustParseAddrPort("10.1.0.1:500")
	gwNATT  = netip.MustParseAddrPort("10.1.0.1:4500")
	firstIP = netip.MustParseAddr("10.9.0.1")
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// issue makes a certificate; a root if the gateway has none yet.
func (g *gateway) issue(name string) ike.Credential {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour * 30),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if g.root == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
		g.root, g.key, g.roots = must(x509.ParseCertificate(der)), key, x509.NewCertPool()
		g.roots.AddCert(g.root)
		return ike.Credential{}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, g.root, key.Public(), g.key))
	return ike.Credential{Chain: [][]byte{der}, Signer: key}
}

// offers makes suites and algorithms of a gateway's configuration.
func offers(ikes, esps []string) ([]ikecrypto.Suite, []dataplane.Algorithm) {
	p := &Profile{Name: "gateway", IKE: ikes, ESP: esps}
	return must(p.Suites()), must(p.Algorithms())
}

func newGateway(t *testing.T, p plane, events chan dataplane.Event) *gateway {
	g := &gateway{
		t: t, plane: p, events: events, orders: make(chan func()), quit: make(chan struct{}), ended: make(chan struct{}),
		next: firstIP, noted: map[ike.Note]int{},
	}
	g.issue("root")
	g.cfg = &ike.Config{
		ID: &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte("gw.example")}, Credentials: []ike.Credential{g.issue("gw.example")},
		ForceUDP: true, HalfOpen: 30 * time.Second, Retransmit: time.Second, Tries: 5, MaxChildren: 4,
		FragmentSize: 1280, MOBIKE: true, Rand: rand.Reader,
	}
	g.cfg.Suites, g.cfg.ESP = offers(modern, lanESP)
	return g
}

// start runs the gateway until the test ends.
func (g *gateway) start() {
	received := make(chan dataplane.Datagram)
	transport := g.plane.Transport()
	go func() {
		for {
			batch := []dataplane.Datagram{{Data: make([]byte, 8<<10)}}
			if _, err := transport.Receive(batch); err != nil {
				return
			}
			select {
			case received <- batch[0]:
			case <-g.quit:
				return
			}
		}
	}()
	go g.run(received)
}

// stop ends the gateway; its data plane is closed by others.
func (g *gateway) stop() {
	close(g.quit)
	<-g.ended
}

func (g *gateway) run(received <-chan dataplane.Datagram) {
	defer close(g.ended)
	timer := time.NewTimer(time.Hour)
	for {
		wait := time.Hour
		for _, m := range g.machines {
			if at := m.Deadline(); !at.IsZero() {
				wait = min(wait, max(time.Until(at), time.Millisecond))
			}
		}
		timer.Reset(wait)
		select {
		case p := <-received:
			g.receive(p)
		case e := <-g.events:
			if e, ok := e.(dataplane.AddressChanged); ok {
				for _, m := range g.machines {
					g.step(m, ike.AddressHint{Inbound: e.Inbound, Local: e.Local, Remote: e.Remote})
				}
			}
		case f := <-g.orders:
			f()
		case <-timer.C:
			for _, m := range append([]*machine(nil), g.machines...) {
				if at := m.Deadline(); !at.IsZero() && !at.After(time.Now()) {
					g.step(m, ike.Tick{})
				}
			}
		case <-g.quit:
			return
		}
	}
}

// do runs f on the gateway's goroutine.
func (g *gateway) do(f func()) {
	done := make(chan struct{})
	g.orders <- func() { defer close(done); f() }
	<-done
}

func (g *gateway) sessions() (n int) {
	g.do(func() { n = len(g.machines) })
	return n
}

func (g *gateway) receive(p dataplane.Datagram) {
	h, err := ikewire.ParseHeader(p.Data)
	if err != nil {
		return
	}
	in := ike.Message{Data: p.Data, Local: p.Local, Remote: p.Remote, Marker: p.Marker}
	for _, m := range g.machines {
		if m.spiI == h.InitiatorSPI && (m.spiR == h.ResponderSPI || h.Exchange == ikewire.IKESAInit) {
			g.step(m, in)
			return
		}
	}
	if h.Exchange == ikewire.IKESAInit {
		spi := g.newSPI()
		m := &machine{Machine: ike.NewResponder(g.cfg, h.InitiatorSPI, spi), spiI: h.InitiatorSPI, spiR: spi}
		g.machines = append(g.machines, m)
		g.step(m, in)
	}
}

func (g *gateway) newSPI() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func (g *gateway) step(m *machine, in ike.Input) {
	g.inputs = append(g.inputs, input{m, in})
	if g.stepping {
		return
	}
	g.stepping = true
	for len(g.inputs) > 0 {
		next := g.inputs[0]
		g.inputs = g.inputs[1:]
		for _, o := range next.m.Step(time.Now(), next.in) {
			g.carryOut(next.m, o)
		}
	}
	g.stepping = false
}

func (g *gateway) carryOut(m *machine, o ike.Output) {
	if g.told != nil {
		g.told(o)
	}
	switch o := o.(type) {
	case ike.Send:
		_, _ = g.plane.Transport().Send([]dataplane.Datagram{{Data: o.Data, Local: o.Local, Remote: o.Remote, Marker: o.Marker}})
	case ike.Work:
		g.step(m, ike.WorkDone{ID: o.ID, Result: o.Do()})
	case ike.AskAdmit:
		cert := must(x509.ParseCertificate(o.Chain[0]))
		g.step(m, ike.Admitted{Device: cert.Subject.CommonName, PublicKey: cert.PublicKey})
	case ike.AskLease:
		g.step(m, ike.Leased{Addresses: []netip.Addr{g.next}})
		g.next = g.next.Next()
	case ike.Reserve:
		g.step(m, ike.Reserved{ID: o.ID, SPI: must(g.plane.Reserve(o.Hint))})
	case ike.ReserveIKE:
		g.step(m, ike.ReservedIKE{ID: o.ID, SPI: g.newSPI()})
	case ike.Apply:
		for _, err := range g.plane.Apply(o.Changes) {
			if err != nil {
				g.t.Errorf("gateway applies: %v", err)
			}
		}
		if o.Wait {
			g.step(m, ike.Applied{ID: o.ID})
		}
	case ike.Spawned:
		next := &machine{Machine: o.Next, spiI: o.InitiatorSPI, spiR: o.ResponderSPI}
		g.machines = append(g.machines, next)
		if o.Redundant {
			g.step(next, ike.Close{Reason: ike.CloseRekeyed})
		}
	case ike.Moved:
		g.moved++
	case ike.Noted:
		g.noted[o.Note]++
	case ike.Closed:
		g.closed = append(g.closed, o)
		if !o.Linger {
			g.remove(m)
		}
	case ike.Forget:
		g.remove(m)
	}
}

func (g *gateway) remove(m *machine) {
	for i := range g.machines {
		if g.machines[i] == m {
			g.machines = append(g.machines[:i:i], g.machines[i+1:]...)
			return
		}
	}
}

// memoryPlane is a data plane on a network in memory. Behind it is one host,
// which answers each echo request and sends what it is told to.
type memoryPlane struct {
	mu       sync.Mutex
	table    table
	children map[dataplane.SPI]*dataplane.Child
	ike, esp *endpoint
	events   chan dataplane.Event
	inbox    chan dataplane.Datagram
	hinted   map[dataplane.SPI]netip.AddrPort
}

func newMemoryPlane(n *network, events chan dataplane.Event) *memoryPlane {
	p := &memoryPlane{
		children: map[dataplane.SPI]*dataplane.Child{}, ike: n.listen(gwIKE), esp: n.listen(gwNATT),
		events: events, inbox: make(chan dataplane.Datagram, 1024), hinted: map[dataplane.SPI]netip.AddrPort{},
	}
	go p.read(p.ike, false)
	go p.read(p.esp, true)
	return p
}

func (p *memoryPlane) close() {
	_ = p.ike.Close()
	_ = p.esp.Close()
	close(p.inbox)
}

func (p *memoryPlane) read(e *endpoint, natt bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := e.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		data := append([]byte(nil), buffer[:n]...)
		switch {
		case natt && len(data) < 4: // keepalive
		case natt && binary.BigEndian.Uint32(data) != 0:
			p.inbound(data, from)
		case natt:
			p.inbox <- dataplane.Datagram{Data: data[4:], Local: e.addr, Remote: from, Marker: true}
		default:
			p.inbox <- dataplane.Datagram{Data: data, Local: e.addr, Remote: from}
		}
	}
}

func (p *memoryPlane) inbound(packet []byte, from netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	spi := dataplane.SPI(binary.BigEndian.Uint32(packet))
	inner, _, _, _, ok := p.table.decrypt(packet)
	if !ok {
		return
	}
	if c := p.children[spi]; c.Path.Remote != from && p.hinted[spi] != from {
		p.hinted[spi] = from
		p.events <- dataplane.AddressChanged{Inbound: spi, Local: gwNATT, Remote: from}
	}
	if e, ok := ParseEcho(inner); ok && !e.Reply {
		p.down(e.Answer().Append(nil))
	}
}

// send sends an inner packet down.
func (p *memoryPlane) send(packet []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down(packet)
}

func (p *memoryPlane) down(packet []byte) {
	to, _ := netip.AddrFromSlice(packet[16:20])
	var out *child
	for spi, c := range p.table.children {
		if d := p.children[spi]; c.used > 0 && d.VirtualIPs[0] == to && (out == nil || c.used > out.used) {
			out = c
		}
	}
	if out == nil {
		return
	}
	b := packetBuffer(packet)
	sealed := out.seal.Seal(b.data[headroom-out.seal.HeaderLen():], b.length, protoIPv4, uint32(out.outbound), out.next)
	out.next++
	_, _ = p.esp.WriteToUDPAddrPort(sealed, p.children[out.inbound].Path.Remote)
}

func (p *memoryPlane) Reserve(netip.Addr) (dataplane.SPI, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	spi, err := p.table.reserve(rand.Reader, 0)
	if err != nil { // the limit is a device's
		for spi = 0x10000; p.table.children[spi] != nil; spi++ {
		}
		p.table.children[spi], err = &child{inbound: spi}, nil
	}
	return spi, err
}

func (p *memoryPlane) Apply(changes []dataplane.Change) (errs []error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range changes {
		switch c := c.(type) {
		case dataplane.Install:
			p.children[c.Child.Inbound.SPI] = &c.Child
		case dataplane.Move:
			p.children[c.Inbound].Path = c.Path
			delete(p.hinted, c.Inbound)
		}
		errs = append(errs, p.table.apply(c))
	}
	return errs
}

func (p *memoryPlane) Transport() dataplane.IKETransport { return p }

func (p *memoryPlane) Receive(batch []dataplane.Datagram) (int, error) {
	d, ok := <-p.inbox
	if !ok {
		return 0, dataplane.ErrClosed
	}
	batch[0] = d
	return 1, nil
}

func (p *memoryPlane) Send(batch []dataplane.Datagram) (int, error) {
	for _, d := range batch {
		if d.Marker {
			_, _ = p.esp.WriteToUDPAddrPort(append(make([]byte, 4), d.Data...), d.Remote)
		} else {
			_, _ = p.ike.WriteToUDPAddrPort(d.Data, d.Remote)
		}
	}
	return len(batch), nil
}
