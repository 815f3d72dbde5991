package ike

import (
	"encoding/binary"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

func withToken(c *Config) {
	c.CrashToken = func(ours, peers uint64) []byte {
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, ours), peers)
	}
}

// shown is what a gateway says that lost everything (RFC 6290 section 4.5).
func (w *world) shown(tokens ...[]byte) {
	h := w.dev.m.header(ikewire.Informational, 9, true)
	h.Flags ^= ikewire.FlagInitiator
	payloads := []ikewire.Payload{notify(ikewire.NotifyInvalidIKESPI, nil)}
	for _, t := range tokens {
		payloads = append(payloads, &ikewire.Notify{Protocol: ikewire.ProtocolIKE, NotifyType: ikewire.NotifyQuickCrashDetection, Data: t})
	}
	raw, err := (&ikewire.Message{Header: h, Payloads: payloads}).Append(nil)
	must(err)
	w.step(w.dev, Message{Data: raw, Local: home.Local, Remote: home.Remote, Marker: true})
}

var wrong = make([]byte, 16)

var crashes = map[string]func(w *world){
	"crash_told": func(w *world) { w.shown(w.gw.m.cfg.CrashToken(0x22, 0x11)) },
	"crash_one_of_four_tokens": func(w *world) {
		w.shown(wrong, wrong, wrong, w.gw.m.cfg.CrashToken(0x22, 0x11))
	},
	"crash_forged": func(w *world) {
		w.shown(wrong)
		w.shown()
		w.shown(w.gw.m.cfg.CrashToken(0x11, 0x22))
		w.shown(wrong, wrong, wrong, wrong, w.gw.m.cfg.CrashToken(0x22, 0x11))
		w.step(w.dev, Probe{})
		w.deliver()
	},
	"crash_after_rekey_by_device": func(w *world) {
		w.dev.m.rekey.due = w.now
		w.step(w.dev, Tick{})
		w.deliver()
		w.shown(w.gw.m.cfg.CrashToken(0x22, 0x11))
		w.say("    that was the old one's")
		w.shown(w.gw.m.cfg.CrashToken(0xa1, 0xd1))
	},
	"crash_after_rekey_by_gateway": func(w *world) {
		w.gw.m.rekey.due = w.now
		w.step(w.gw, Tick{})
		w.deliver()
		w.shown(w.gw.m.cfg.CrashToken(0xa1, 0xd1))
	},
}

func TestCrashes(t *testing.T) {
	for name, run := range crashes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{gw: withToken})
			w.connect()
			w.log.Reset()
			run(w)
			w.golden(name)
		})
	}
}

// TestGatewayKeepsNoToken: a device can't have a gateway forget it by a token of
// its own making, nor fill its memory.
func TestGatewayKeepsNoToken(t *testing.T) {
	w := newWorld(t, options{gw: withToken, dev: withToken})
	w.connect()
	w.request(w.dev, ikewire.Informational, notify(ikewire.NotifyQuickCrashDetection, make([]byte, 128)))
	if w.gw.m.crashToken != nil {
		t.Errorf("kept %x", w.gw.m.crashToken)
	}
	for _, n := range []int{0, minCrashToken - 1, maxCrashToken + 1} {
		before := w.dev.m.crashToken
		w.request(w.gw, ikewire.Informational, notify(ikewire.NotifyQuickCrashDetection, make([]byte, n)))
		if string(w.dev.m.crashToken) != string(before) {
			t.Errorf("a token of %d octets was taken", n)
		}
	}
}
