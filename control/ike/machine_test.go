package ike

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Each scenario drives both machines; its transcript is in testdata.
var scenarios = map[string]struct {
	options
	run func(w *world)
}{
	"connect": {run: (*world).connect},
	"connect_rsa_cbc_p384": {
		options: options{device: "rsa", dev: func(c *Config) {
			c.Suites, c.ESP = []ikecrypto.Suite{cbcP384}, []dataplane.Algorithm{espCBC}
		}},
		run: (*world).connect,
	},
	"connect_p384_certificate": {options: options{device: "ecdsa384"}, run: (*world).connect},
	"earlier_address_and_networks": {
		options: options{initiator: func(c *InitiatorConfig) {
			c.Want = []netip.Addr{lease}
			c.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}},
		run: func(w *world) {
			w.gw.lease = func(a AskLease) Input {
				return Leased{Addresses: a.Want, Settings: &Settings{Networks: []netip.Prefix{
					netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("192.168.0.0/16"),
				}}}
			}
			w.connect()
		},
	},
	"invalid_ke": {
		options: options{gw: func(c *Config) { c.Suites = c.Suites[1:] }},
		run: func(w *world) {
			w.step(w.dev, Tick{})
			w.deliver()
			// The refusal left no state: the gateway's owner makes a new machine.
			w.gw.m, w.gw.done = NewResponder(w.gw.m.cfg, 0x11, 0x23), false
			w.wire = []packet{{w.gw, w.lastFrom(w.dev)}}
			w.deliver()
		},
	},
	"no_proposal": {
		options: options{dev: func(c *Config) { c.Suites = []ikecrypto.Suite{gcmP256} }, gw: func(c *Config) { c.Suites = []ikecrypto.Suite{gcmX25519} }},
		run:     (*world).connect,
	},
	"esp_no_proposal": {
		options: options{dev: func(c *Config) { c.ESP = []dataplane.Algorithm{espCBC} }, gw: func(c *Config) { c.ESP = []dataplane.Algorithm{espGCM} }},
		run:     (*world).connect,
	},
	"refused": {run: func(w *world) {
		w.gw.admit = func(AskAdmit) Input { return Refused{Reason: "revoked"} }
		w.drop[4] = true // the answer is lost, and asked for again
		w.connect()
		w.pass(20 * time.Second)
	}},
	"wrong_key": {run: func(w *world) {
		w.gw.admit = admitted(identities()["ecdsa384"], "dev")
		w.connect()
	}},
	"gateway_refused": {run: func(w *world) {
		w.dev.admit = func(AskAdmit) Input { return Refused{Reason: "untrusted_chain"} }
		w.connect()
		w.pass(time.Minute)
	}},
	"no_address": {run: func(w *world) {
		w.gw.lease = func(AskLease) Input { return LeaseFailed{Reason: "exhausted"} }
		w.connect()
		w.pass(time.Minute)
	}},
	"ts_unacceptable": {
		options: options{initiator: func(c *InitiatorConfig) { c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }},
		run: func(w *world) {
			w.gw.lease = func(AskLease) Input {
				return Leased{Addresses: []netip.Addr{lease}, Settings: &Settings{Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}}}
			}
			w.connect()
		},
	},
	"data_plane_refuses": {run: func(w *world) {
		w.gw.apply = func(Apply) error { return dataplane.ErrNotReserved }
		w.connect()
	}},
	"loss_init_request": {run: lossOf(1)}, "loss_init_response": {run: lossOf(2)},
	"loss_auth_request": {run: lossOf(3)}, "loss_auth_response": {run: lossOf(4)},
	"half_open_timeout": {run: func(w *world) {
		w.drop[3] = true
		w.connect()
		w.dev.done = true // vanished
		w.pass(time.Minute)
	}},
	"liveness": {run: func(w *world) {
		w.connect()
		w.step(w.gw, Probe{})
		w.deliver()
		w.dev.done = true
		w.say("    the device vanishes")
		w.step(w.gw, Probe{})
		w.step(w.gw, Probe{})
		w.pass(time.Hour)
	}},
	"delete_by_device": {run: func(w *world) {
		w.connect()
		w.drop[6] = true // the answer
		w.step(w.dev, Close{Reason: CloseKilled})
		w.deliver()
		w.pass(time.Minute)
	}},
	"delete_by_gateway": {run: func(w *world) {
		w.connect()
		w.step(w.gw, Close{Reason: CloseReplaced})
		w.deliver()
		w.pass(time.Minute)
	}},
	"delete_by_both": {run: func(w *world) {
		w.connect()
		w.step(w.gw, Close{Reason: CloseReplaced})
		w.step(w.dev, Close{Reason: CloseKilled})
		w.deliver()
		w.pass(time.Minute)
	}},
	"delete_while_probing": {run: func(w *world) {
		w.connect()
		w.step(w.gw, Probe{})
		w.step(w.gw, Close{Reason: CloseKilled})
		w.deliver()
		w.pass(time.Minute)
	}},
	"peer_deletes_child": {run: func(w *world) {
		w.connect()
		w.request(w.dev, ikewire.Informational, &ikewire.Delete{Protocol: ikewire.ProtocolESP, SPIs: []uint32{0xd001}})
	}},
	"create_child_refused": {run: func(w *world) {
		w.connect()
		w.request(w.dev, ikewire.CreateChildSA, &ikewire.Nonce{Data: make([]byte, 32)})
	}},
	"critical_payload": {run: func(w *world) {
		w.connect()
		w.request(w.dev, ikewire.Informational, &ikewire.Unknown{PayloadType: 200, Critical: true})
		w.request(w.dev, ikewire.Informational, &ikewire.Unknown{PayloadType: 200})
	}},
	"no_nat_detection": {run: func(w *world) {
		w.withoutNotify(ikewire.NotifyNATDetectionSourceIP)
	}},
}

func lossOf(n int) func(*world) {
	return func(w *world) {
		w.drop[n] = true
		w.connect()
		w.pass(3 * time.Second)
	}
}

func (w *world) lastFrom(s *side) Send {
	r := &s.m.request
	return Send{Data: r.raw[0], Local: s.m.path.local, Remote: s.m.path.remote, Marker: s.m.path.marker}
}

// request sends what no honest machine of ours would.
func (w *world) request(s *side, x ikewire.ExchangeType, payloads ...ikewire.Payload) {
	w.provoke(s, func(m *Machine) {
		m.sendRequest(w.now, x, payloads, func(time.Time, Message, []ikewire.Payload) {})
	})
	w.deliver()
}

// withoutNotify has the device's first message arrive without a notification.
func (w *world) withoutNotify(t ikewire.NotifyType) {
	w.step(w.dev, Tick{})
	p := w.wire[0]
	m, err := ikewire.Parse(p.data.Data)
	must(err)
	var kept []ikewire.Payload
	for _, pl := range m.Payloads {
		if n, ok := pl.(*ikewire.Notify); !ok || n.NotifyType != t {
			kept = append(kept, pl)
		}
	}
	m.Payloads = kept
	p.data.Data, err = m.Append(nil)
	must(err)
	w.wire[0] = p
	w.deliver()
}

func TestTranscripts(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s.options)
			s.run(w)
			w.golden(name)
			w.checkKeys()
		})
	}
}

// checkKeys: whoever is up has the same keys crosswise, and who is down has
// nothing left in the data plane.
func (w *world) checkKeys() {
	w.t.Helper()
	installed := func(s *side) map[dataplane.SPI]bool {
		up := map[dataplane.SPI]bool{}
		for _, c := range s.changes {
			switch c := c.(type) {
			case dataplane.Install:
				up[c.Child.Inbound.SPI] = true
			case dataplane.Remove:
				delete(up, c.Inbound)
			case dataplane.UseOutbound, dataplane.Move:
			}
		}
		return up
	}
	for _, s := range []*side{w.dev, w.gw} {
		n := len(installed(s))
		if s.m.state != stateEstablished && s.m.state != stateAuth && n != 0 {
			w.t.Errorf("%s is down with %d Child SAs installed", s.name, n)
		}
		if s.m.state == stateEstablished && s.m.handshake != nil {
			w.t.Errorf("%s keeps handshake state after it is up", s.name)
		}
	}
}

// TestChildKeysAgree: what one side seals the other can open.
func TestChildKeysAgree(t *testing.T) {
	w := newWorld(t, options{})
	got := map[string]dataplane.Child{}
	w.check = func(s *side, o Output) {
		if a, ok := o.(Apply); ok && a.Wait {
			c := a.Changes[0].(dataplane.Install).Child
			c.Inbound.Keys, c.Outbound.Keys = c.Inbound.Keys.Clone(), c.Outbound.Keys.Clone()
			got[s.name] = c
		}
	}
	w.connect()
	dev, gw := got["dev"], got["gw "]
	if string(dev.Inbound.Keys.Encryption) != string(gw.Outbound.Keys.Encryption) || len(gw.Outbound.Keys.Encryption) != 20 ||
		string(dev.Outbound.Keys.Encryption) != string(gw.Inbound.Keys.Encryption) || dev.Inbound.SPI != gw.Outbound.SPI || dev.Outbound.SPI != gw.Inbound.SPI {
		t.Errorf("keys or SPIs differ:\ndev %+v\ngw  %+v", dev, gw)
	}
	if string(gw.Inbound.Keys.Encryption) == string(gw.Outbound.Keys.Encryption) {
		t.Error("both directions have one key")
	}
	for _, s := range []*side{w.dev, w.gw} {
		k := s.changes[0].(dataplane.Install).Child.Inbound.Keys.Encryption
		if string(k) != string(make([]byte, len(k))) {
			t.Errorf("%s: keys are not erased after they were installed", s.name)
		}
	}
}

// TestCookie: the owner asks for a cookie before there is a machine; the
// initiator brings it back in front of the same message (RFC 7296 section 2.6).
func TestCookie(t *testing.T) {
	w := newWorld(t, options{})
	w.step(w.dev, Tick{})
	before, _ := ikewire.Parse(w.wire[0].data.Data)
	w.wire = nil
	challenge := &ikewire.Message{
		Header:   ikewire.Header{InitiatorSPI: 0x11, Exchange: ikewire.IKESAInit, Flags: ikewire.FlagResponse},
		Payloads: []ikewire.Payload{notify(ikewire.NotifyCookie, []byte("crumbs"))},
	}
	raw, err := challenge.Append(nil)
	must(err)
	w.step(w.dev, Message{Data: raw})
	after, _ := ikewire.Parse(w.wire[0].data.Data)
	c, ok := after.Payloads[0].(*ikewire.Notify)
	if !ok || c.NotifyType != ikewire.NotifyCookie || string(c.Data) != "crumbs" {
		t.Fatalf("first payload is not the cookie: %+v", after.Payloads[0])
	}
	a, _ := (&ikewire.Message{Header: before.Header, Payloads: before.Payloads}).Append(nil)
	b, _ := (&ikewire.Message{Header: after.Header, Payloads: after.Payloads[1:]}).Append(nil)
	if string(a) != string(b) {
		t.Error("the message behind the cookie is not the same")
	}
	w.deliver()
	if w.gw.m.state != stateEstablished || w.dev.m.state != stateEstablished {
		t.Errorf("not established:\n%s", w.log.String())
	}
	// A flood of forged challenges ends.
	w = newWorld(t, options{})
	w.step(w.dev, Tick{})
	for range 20 {
		w.step(w.dev, Message{Data: raw})
	}
	if w.sent > 1+maxInitRetries {
		t.Errorf("%d messages sent after forged cookies", w.sent)
	}
}

// TestCookieBehindACopy: a copy of the first message gets in after its sender was
// asked for a cookie. What the sender says again, with the cookie, has the same
// answer, and its AUTH counts, whichever message that is for; neither helps a
// message that isn't the same behind the cookie.
func TestCookieBehindACopy(t *testing.T) {
	raw, err := (&ikewire.Message{
		Header:   ikewire.Header{InitiatorSPI: 0x11, Exchange: ikewire.IKESAInit, Flags: ikewire.FlagResponse},
		Payloads: []ikewire.Payload{notify(ikewire.NotifyCookie, []byte("crumbs"))},
	}).Append(nil)
	must(err)
	for name, tt := range map[string]struct {
		asked, forged bool
	}{
		"asked": {asked: true}, "not asked": {}, "forged": {forged: true}, "asked and forged": {asked: true, forged: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{})
			w.step(w.dev, Tick{})
			if tt.asked {
				w.step(w.dev, Message{Data: raw})
			} else {
				with := w.wire[0]
				m, err := ikewire.Parse(with.data.Data)
				must(err)
				with.data.Data, err = (&ikewire.Message{Header: m.Header, Payloads: append([]ikewire.Payload{notify(ikewire.NotifyCookie, []byte("crumbs"))}, m.Payloads...)}).Append(nil)
				must(err)
				w.wire = append(w.wire, with)
			}
			if tt.forged {
				other := w.wire[1]
				other.data.Data = bytes.Clone(other.data.Data)
				other.data.Data[len(other.data.Data)-1] ^= 1
				w.wire = append(w.wire[:1], other, w.wire[1])
			}
			w.deliver()
			if w.gw.m.state != stateEstablished || w.dev.m.state != stateEstablished {
				t.Errorf("not established:\n%s", w.log.String())
			}
		})
	}
}

// TestReplayedRequests: every message that was ever seen comes again, in every
// order; nothing new happens, and only authentic ones are answered.
func TestReplayedRequests(t *testing.T) {
	w := newWorld(t, options{})
	var seen []packet
	w.step(w.dev, Tick{})
	for len(w.wire) > 0 {
		seen = append(seen, w.wire[0])
		w.deliverOne()
	}
	w.step(w.gw, Probe{})
	for len(w.wire) > 0 {
		seen = append(seen, w.wire[0])
		w.deliverOne()
	}
	changes := len(w.gw.changes) + len(w.dev.changes)
	for range 3 {
		for _, p := range seen {
			w.step(p.to, Message{Data: p.data.Data, Local: p.data.Remote, Remote: p.data.Local, Marker: p.data.Marker})
			w.wire = nil
		}
	}
	if n := len(w.gw.changes) + len(w.dev.changes); n != changes {
		t.Errorf("replays made %d changes:\n%s", n-changes, w.log.String())
	}
	if w.gw.m.state != stateEstablished || w.dev.m.state != stateEstablished {
		t.Error("replays ended the IKE SA")
	}
}

func (w *world) deliverOne() {
	p := w.wire[0]
	w.wire = w.wire[1:]
	w.give(p)
}

// TestUnprotected: an established IKE SA takes nothing that isn't sealed, or
// sealed by somebody else.
func TestUnprotected(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	for _, forged := range []*ikewire.Message{
		{Header: w.dev.m.header(ikewire.Informational, 2, false), Payloads: []ikewire.Payload{&ikewire.Delete{Protocol: ikewire.ProtocolIKE}}},
		{Header: w.dev.m.header(ikewire.Informational, 2, false)},
		{Header: w.dev.m.header(ikewire.Informational, 2, false), Payloads: []ikewire.Payload{&ikewire.Encrypted{Body: make([]byte, 64)}}},
	} {
		raw, err := forged.Append(nil)
		must(err)
		sent := w.sent
		w.step(w.gw, Message{Data: raw, Local: netip.AddrPortFrom(gwAddr, 4500), Remote: netip.MustParseAddrPort("10.1.0.66:4500")})
		if w.sent != sent || w.gw.m.state != stateEstablished || w.gw.m.path.remote.Addr() != devAddr {
			t.Errorf("a forged message had an effect:\n%s", w.log.String())
		}
	}
}

// TestLateAnswers: a machine that ended while it waited takes the answer
// without doing anything.
func TestLateAnswers(t *testing.T) {
	w := newWorld(t, options{})
	answered := false
	w.gw.admit = func(AskAdmit) Input {
		w.step(w.gw, Close{Reason: CloseShutdown})
		answered = true
		w.gw.done = false
		return Admitted{Device: "dev", PublicKey: identities()["ecdsa256"].cert.PublicKey}
	}
	w.connect()
	if !answered || w.gw.m.state != stateDead || len(w.gw.changes) != 0 {
		t.Errorf("state %d, changes %v", w.gw.m.state, w.gw.changes)
	}
}

// TestAdmitSeesTheChain: what the peer sent reaches the decision unchanged.
func TestAdmitSeesTheChain(t *testing.T) {
	w := newWorld(t, options{})
	var ask AskAdmit
	inner := w.gw.admit
	w.gw.admit = func(a AskAdmit) Input { ask = a; return inner(a) }
	w.connect()
	if len(ask.Chain) != 1 {
		t.Fatalf("%d certificates", len(ask.Chain))
	}
	cert, err := x509.ParseCertificate(ask.Chain[0])
	if err != nil || !cert.Equal(identities()["ecdsa256"].cert) || string(ask.ID.Data) != "dev" || !ask.ID.Initiator {
		t.Errorf("got %v, %v, %v", cert, err, ask.ID)
	}
}

var errNoRandom = errors.New("no randomness")

type noRand struct{}

func (noRand) Read([]byte) (int, error) { return 0, errNoRandom }

// TestNoRandomness: without it there is no exchange, and no weak one either.
func TestNoRandomness(t *testing.T) {
	w := newWorld(t, options{gw: func(c *Config) { c.Rand = noRand{} }})
	w.connect()
	if w.gw.m.state != stateDead || w.sent != 1 {
		t.Errorf("state %d after %d messages", w.gw.m.state, w.sent)
	}
}
