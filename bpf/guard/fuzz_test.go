package guard

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf"
)

// FuzzFrame gives any frame to the program: it always comes to one verdict, and
// what doesn't bear an address of the gateway passes untouched.
func FuzzFrame(f *testing.F) {
	for _, c := range verdictCases() {
		f.Add(c.frame.bytes())
	}
	f.Add(udp4(500, first(cookieNotify(make([]byte, 9)))).bytes())
	g := loaded(f, func(c *Config) { c.Rates.Init = exhausted })
	setKeys(f, g, 7)
	four, six := gateway4.AsSlice(), gateway6.AsSlice()
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 14 || len(frame) > 3000 { // what BPF_PROG_RUN takes
			return
		}
		out := make([]byte, len(frame)+256)
		options := &ebpf.RunOptions{Data: frame, DataOut: out}
		action, err := g.objects.Guard.Run(options)
		if err != nil {
			t.Fatal(err)
		}
		switch action {
		case xdpPass:
			if !bytes.Equal(options.DataOut, frame) {
				t.Errorf("a frame that passes was changed")
			}
		case xdpTX:
			if len(options.DataOut) > len(frame) {
				t.Errorf("an answer of %d octets to %d", len(options.DataOut), len(frame))
			}
		case xdpDrop:
		default:
			t.Fatalf("XDP action %d", action)
		}
		if action != xdpPass && !bytes.Contains(frame, four) && !bytes.Contains(frame, six) {
			t.Errorf("action %d for a frame without an address of the gateway", action)
		}
	})
}
