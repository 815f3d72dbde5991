package ike

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// The harness runs two machines, "dev" the initiator and "gw" the responder,
// over a wire that a scenario can cut, in a time that a scenario moves. All
// that goes in and out is written down; golden files hold the transcripts.

var update = flag.Bool("update", false, "write the golden transcripts anew")

var (
	devAddr = netip.MustParseAddr("10.1.0.2")
	gwAddr  = netip.MustParseAddr("10.1.0.1")
	lease   = netip.MustParseAddr("10.9.0.7")
)

// identity is a certificate with its key; made once, for speed.
type identity struct {
	id   *ikewire.ID
	cred Credential
	cert *x509.Certificate
}

var identities = sync.OnceValue(func() map[string]identity {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	gw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return map[string]identity{
		"ecdsa256": newIdentity("dev", p256), "ecdsa384": newIdentity("dev", p384),
		"rsa": newIdentity("dev", rsaKey), "gw": newIdentity("gw.example", gw),
	}
})

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newIdentity(name string, key crypto.Signer) identity {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return identity{
		id:   &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(name)},
		cred: Credential{Chain: [][]byte{der}, Signer: key}, cert: cert,
	}
}

// lockedRand is randomness that repeats.
type lockedRand struct{ *mathrand.ChaCha8 }

func newRand(seed byte) lockedRand { return lockedRand{mathrand.NewChaCha8([32]byte{seed})} }

var (
	gcmX25519 = ikecrypto.Suite{Encryption: ikewire.EncrAESGCM16, KeyBits: 128, PRF: ikewire.PRFHMACSHA256, Group: ikewire.GroupCurve25519}
	gcmP256   = ikecrypto.Suite{Encryption: ikewire.EncrAESGCM16, KeyBits: 256, PRF: ikewire.PRFHMACSHA384, Group: ikewire.GroupECP256}
	cbcP384   = ikecrypto.Suite{Encryption: ikewire.EncrAESCBC, KeyBits: 256, Integrity: ikewire.IntegHMACSHA384, PRF: ikewire.PRFHMACSHA384, Group: ikewire.GroupECP384}
	espGCM    = dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}
	espCBC    = dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 256, Integrity: dataplane.IntegrityHMACSHA256}
)

func config(who identity, seed byte) *Config {
	return &Config{
		Suites: []ikecrypto.Suite{gcmX25519, gcmP256, cbcP384},
		ESP:    []dataplane.Algorithm{espGCM, espCBC},
		ID:     who.id, Credentials: []Credential{who.cred},
		TrustAnchors: [][20]byte{{1, 2, 3}},
		HalfOpen:     30 * time.Second, Retransmit: 2 * time.Second, Tries: 4,
		MaxChildren: 4,
		Rand:        newRand(seed),
	}
}

// side is one machine and what its owner would do for it.
type side struct {
	name    string
	m       *Machine   // the one that carries the session
	older   []*Machine // which it took over from, or which were redundant
	spi     dataplane.SPI
	ikeSPI  uint64
	admit   func(AskAdmit) Input
	lease   func(AskLease) Input
	apply   func(Apply) error
	changes []dataplane.Change
	done    bool // told Forget, or Closed without Linger
}

// machines of a side, the current one first.
func (s *side) machines() []*Machine { return append([]*Machine{s.m}, s.older...) }

// find returns the machine that a message is for.
func (s *side) find(raw []byte) *Machine {
	h, err := ikewire.ParseHeader(raw)
	for _, m := range s.machines() {
		if err == nil && m.state != stateDead && m.spiI == h.InitiatorSPI && (h.ResponderSPI == m.spiR || h.Exchange == ikewire.IKESAInit || h.Exchange == ikewire.IKESessionResume) {
			return m
		}
	}
	return s.m
}

type packet struct {
	to   *side
	data Send
}

type world struct {
	t       *testing.T
	now     time.Time
	dev, gw *side
	wire    []packet
	// drop says which of the messages sent so far get lost, counted from 1.
	drop  map[int]bool
	lose  func(Send) bool
	forge func(Send) Send // changes what goes over the wire
	sent  int
	// rested counts machines that were laid to rest and woken, see layToRest.
	rested int
	octets slab.Octets // where they are then
	nat    func(netip.AddrPort) netip.AddrPort
	check  func(*side, Output) // sees every output
	// hold says which answers are kept back until release.
	hold func(*side, Input) bool
	held []func()
	// tickets that the gateway gave, in the order of their numbers, unless
	// noTickets; received is the newest of the device.
	tickets   []Resumption
	noTickets bool
	received  *Ticket
	log       strings.Builder
}

// options of a world; the zero value connects with ECDSA P-256.
type options struct {
	device    string // of identities
	dev, gw   func(*Config)
	initiator func(*InitiatorConfig)
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	ids := identities()
	device := ids[o.device]
	if o.device == "" {
		device = ids["ecdsa256"]
	}
	w := &world{t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), drop: map[int]bool{}}
	gwConfig, devConfig := config(ids["gw"], 1), config(device, 2)
	gwConfig.ForceUDP = true
	if o.gw != nil {
		o.gw(gwConfig)
	}
	if o.dev != nil {
		o.dev(devConfig)
	}
	ic := &InitiatorConfig{
		Config: devConfig,
		Local:  netip.AddrPortFrom(devAddr, 500), Remote: netip.AddrPortFrom(gwAddr, 500),
		LocalNATT: netip.AddrPortFrom(devAddr, 4500), RemoteNATT: netip.AddrPortFrom(gwAddr, 4500),
	}
	if o.initiator != nil {
		o.initiator(ic)
	}
	w.dev = &side{name: "dev", m: NewInitiator(ic, 0x11), spi: 0xd001, ikeSPI: 0xd1, admit: admitted(ids["gw"], "gw.example")}
	w.gw = &side{name: "gw ", m: NewResponder(gwConfig, 0x11, 0x22), spi: 0xa001, ikeSPI: 0xa1, admit: admitted(device, "dev")}
	w.gw.lease = func(a AskLease) Input {
		return Leased{Addresses: []netip.Addr{lease}, Settings: &Settings{DNS: []netip.Addr{netip.MustParseAddr("10.2.0.53")}}}
	}
	return w
}

func admitted(who identity, device string) func(AskAdmit) Input {
	return func(AskAdmit) Input { return Admitted{Device: device, PublicKey: who.cert.PublicKey} }
}

func (w *world) say(format string, args ...any) { fmt.Fprintf(&w.log, format+"\n", args...) }

// step gives one input and carries out what comes of it.
func (w *world) step(s *side, in Input) {
	w.t.Helper()
	if s.done {
		w.t.Fatalf("%s: input %T after the end\n%s", s.name, in, w.log.String())
	}
	w.stepMachine(s, s.m, in)
}

func (w *world) stepMachine(s *side, m *Machine, in Input) {
	// Outputs are valid until the next Step only.
	outputs := append([]Output(nil), m.Step(w.now, in)...)
	w.layToRest(m)
	for _, o := range outputs {
		if w.check != nil {
			w.check(s, o)
		}
		w.carryOut(s, m, o)
	}
}

func (w *world) carryOut(s *side, m *Machine, o Output) {
	switch o := o.(type) {
	case Send:
		w.send(s, m, o)
	case Work:
		w.say("%s   work    %s", s.name, o.Name)
		w.answer(s, m, WorkDone{ID: o.ID, Result: o.Do()})
	case AskAdmit:
		if o.Resumed {
			w.say("%s   ask     admit %s, resumed", s.name, o.ID)
		} else {
			w.say("%s   ask     admit %s, %d certificates", s.name, o.ID, len(o.Chain))
		}
		w.stepMachine(s, m, s.admit(o))
	case AskTicket:
		w.say("%s   ask     ticket for %s", s.name, o.PeerID)
		w.answer(s, m, w.ticket(o))
	case TicketReceived:
		w.say("%s   ticket  %q until %s", s.name, o.Ticket.Opaque, o.Ticket.Expires.Format("15:04:05"))
		w.received = o.Ticket
	case AskLease:
		w.say("%s   ask     lease for %s, wants %v", s.name, o.Device, o.Want)
		w.stepMachine(s, m, s.lease(o))
	case Reserve:
		w.answer(s, m, Reserved{ID: o.ID, SPI: s.spi})
		s.spi++
	case ReserveIKE:
		w.stepMachine(s, m, ReservedIKE{ID: o.ID, SPI: s.ikeSPI})
		s.ikeSPI++
	case Apply:
		w.apply(s, m, o)
	case Spawned:
		w.spawned(s, o)
	case Rekeyed:
		w.say("%s   REKEYED %s", s.name, o.IKE)
		s.older = append(slices.DeleteFunc(s.older, func(m *Machine) bool { return m == o.Next }), s.m)
		s.m = o.Next
	case ChildUp:
		w.say("%s   child   in %x out %x %s", s.name, o.Inbound, o.Outbound, o.ESP)
	case ChildDown:
		w.say("%s   gone    %x", s.name, o.Inbound)
	case Moved:
		w.say("%s   moved   %s <- %s", s.name, o.Local, o.Remote)
	case PathProbed:
		w.say("%s   probed  %s -> %s works %v", s.name, o.Local, o.Remote, o.Works)
	case PeerAddresses:
		w.say("%s   peer    also at %v", s.name, o.Addresses)
	case Established:
		u := o.Summary
		w.say("%s   UP      %s %v %s | %s in %x out %x", s.name, u.Device, u.VirtualIPs, u.IKE, u.ESP, u.Inbound, u.Outbound)
	case Noted:
		w.say("%s   note    %s %s", s.name, o.Note, o.Detail)
	case Closed:
		w.say("%s   CLOSED  %s %s", s.name, o.Reason, o.Detail)
		s.done = s.done || (!o.Linger && m == s.m)
	case Forget:
		w.say("%s   forget", s.name)
		s.done = s.done || m == s.m
	case KeysDerived:
		w.say("%s   keys    ike=%v child=%v", s.name, o.IKE != nil, o.Child != nil)
	}
}

// answer gives an answer at once, or keeps it back while a scenario says so.
func (w *world) answer(s *side, m *Machine, in Input) {
	if w.hold != nil && w.hold(s, in) {
		w.held = append(w.held, func() { w.stepMachine(s, m, in) })
		return
	}
	w.stepMachine(s, m, in)
}

// release gives out what was kept back.
func (w *world) release() {
	held := w.held
	w.held, w.hold = nil, nil
	for _, f := range held {
		f()
	}
}

func (w *world) spawned(s *side, o Spawned) {
	w.say("%s   spawned SPIs %x %x, redundant %v", s.name, o.InitiatorSPI, o.ResponderSPI, o.Redundant)
	s.older = append(s.older, o.Next)
	if o.Redundant {
		w.stepMachine(s, o.Next, Close{Reason: CloseRekeyed})
	}
}

func (w *world) apply(s *side, m *Machine, o Apply) {
	for _, c := range o.Changes {
		s.changes = append(s.changes, c)
		switch c := c.(type) {
		case dataplane.Install:
			w.say("%s   install in %x out %x %s, local %s, remote %s, by UDP %v", s.name, c.Child.Inbound.SPI, c.Child.Outbound.SPI,
				c.Child.Algorithm, ranges(c.Child.Local), ranges(c.Child.Remote), c.Child.Path.Encapsulation == dataplane.EncapsulationUDP)
		case dataplane.UseOutbound:
			w.say("%s   use     %x", s.name, c.Inbound)
		case dataplane.Remove:
			w.say("%s   remove  %x", s.name, c.Inbound)
		case dataplane.Move:
			raw := ""
			if c.Path.Encapsulation == dataplane.EncapsulationNone {
				raw = ", raw"
			}
			w.say("%s   move    %x to %s%s", s.name, c.Inbound, c.Path.Remote, raw)
		}
	}
	if o.Wait {
		var err error
		if s.apply != nil {
			err = s.apply(o)
		}
		w.answer(s, m, Applied{ID: o.ID, Err: err})
	}
}

func ranges(ss []dataplane.Selector) string {
	var out []string
	for _, s := range ss {
		out = append(out, fmt.Sprintf("%s-%s", s.First, s.Last))
	}
	return strings.Join(out, ",")
}

func (w *world) send(from *side, m *Machine, o Send) {
	to := w.gw
	if from == w.gw {
		to = w.dev
	}
	w.sent++
	if w.forge != nil {
		o = w.forge(o)
	}
	lost := ""
	if w.drop[w.sent] || (w.lose != nil && w.lose(o)) {
		lost = "   (lost)"
	} else {
		w.wire = append(w.wire, packet{to, o})
	}
	w.say("%s -> %s->%s %s%s", from.name, short(o.Local), short(o.Remote), w.describe(from, m, o.Data), lost)
}

// short is the port alone at home.
func short(a netip.AddrPort) string {
	if a.Addr() == devAddr || a.Addr() == gwAddr {
		return fmt.Sprint(a.Port())
	}
	return a.String()
}

// describe decodes a message with the keys of its sender.
func (w *world) describe(from *side, sender *Machine, raw []byte) string {
	m, err := ikewire.Parse(raw)
	if err != nil {
		return err.Error()
	}
	kind := "request"
	if m.IsResponse() {
		kind = "response"
	}
	payloads := m.Payloads
	if _, sealed := ikewire.Find[*ikewire.Encrypted](payloads); sealed {
		other := w.gw
		if from == w.gw {
			other = w.dev
		}
		open := other.find(raw).open
		if open == nil || sender.seal == nil {
			return fmt.Sprintf("%s %s %d SK", m.Exchange, kind, m.MessageID)
		}
		if sk, _ := ikewire.Find[*ikewire.Encrypted](payloads); sk.Total > 0 {
			return fmt.Sprintf("%s %s %d SKF %d/%d", m.Exchange, kind, m.MessageID, sk.Fragment, sk.Total)
		}
		if payloads, err = open.Open(raw, m); err != nil {
			return fmt.Sprintf("%s %s %d: %v", m.Exchange, kind, m.MessageID, err)
		}
	}
	var names []string
	for _, p := range payloads {
		n := p.Type().String()
		if nt, ok := p.(*ikewire.Notify); ok {
			n = "N(" + nt.NotifyType.String() + ")"
		}
		names = append(names, n)
	}
	return fmt.Sprintf("%s %s %d {%s}", m.Exchange, kind, m.MessageID, strings.Join(names, " "))
}

// deliver moves messages until the wire is empty.
func (w *world) deliver() {
	for len(w.wire) > 0 {
		p := w.wire[0]
		w.wire = w.wire[1:]
		if p.to.done {
			continue
		}
		w.give(p)
	}
}

// give hands one message to the machine it is for. From where it seems to come
// is up to w.nat.
func (w *world) give(p packet) {
	remote := p.data.Local
	if w.nat != nil && p.to == w.gw {
		remote = w.nat(remote)
	}
	w.stepMachine(p.to, p.to.find(p.data.Data), Message{Data: p.data.Data, Local: p.data.Remote, Remote: remote, Marker: p.data.Marker})
}

func (w *world) connect() {
	w.step(w.dev, Tick{})
	w.deliver()
}

// soonest is whose deadline comes first before end, nil if nobody's does.
func (w *world) soonest(end time.Time) (due time.Time, who *side, which *Machine) {
	due = end
	for _, s := range []*side{w.dev, w.gw} {
		for _, m := range s.machines() {
			over := m.state == stateDead || s.done && m == s.m
			if t := m.Deadline(); !over && !t.IsZero() && t.Before(due) {
				due, who, which = t, s, m
			}
		}
	}
	return due, who, which
}

// pass lets time pass up to d, with every Tick that falls due.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		due, who, which := w.soonest(end)
		if who == nil {
			w.now = end
			return
		}
		if due.After(w.now) {
			w.now = due.UTC()
		}
		w.say("    %s", w.now.Format("15:04:05"))
		w.stepMachine(who, which, Tick{})
		w.deliver()
	}
}

// golden compares the transcript with testdata/NAME.txt.
func (w *world) golden(name string) {
	w.t.Helper()
	file := filepath.Join("testdata", name+".txt")
	got := w.log.String()
	if *update {
		must(os.MkdirAll("testdata", 0o755))
		must(os.WriteFile(file, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if got != string(want) {
		w.t.Errorf("transcript differs from %s (accept with -update):\n%s\nwant:\n%s", file, got, want)
	}
}
