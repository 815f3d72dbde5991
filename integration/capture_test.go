package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/integration/netns"
)

var benchProgram = built("ROAMGATE_BENCH", "bin/bench", "../bench")

// What bench captures of its own devices is read by an independent decoder with the
// keys that bench exports: IKE_AUTH, and packets of many tunnels.
//
//	dev1 (bench, --pcap, --keys) -- gw (gatewayd) -- lan (bench flow receive)
func TestTsharkReadsBenchCaptures(t *testing.T) {
	s := newScenario(t, options{configure: func(s *scenario) { s.conf.InstanceOIDs = nil }})
	s.credential("ca", identity{cert: s.root.cert, key: s.root.key})
	receiver := exec.Command(program(t, benchProgram), "flow", "receive", "--at", "10.2.0.2:5202", "--quiet-after", "1m")
	p, err := s.top.LAN.Start(receiver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(0) })
	run := func(args ...string) (pcap, keys string) {
		t.Helper()
		// With one proposal IKE_AUTH isn't fragmented: Wireshark 4.0 mixes up fragments
		// of SAs that have one pair of addresses.
		pcap, keys = filepath.Join(s.dir, args[0]+".pcap"), filepath.Join(s.dir, args[0]+"-keys")
		args = append(args, "--gateway", netns.GatewayOutside.String(), "--gateway-id", gatewayID, "--root", "ca.crt", "--ca", "ca.crt", "--ca-key", "ca.key",
			"--devices", "3", "--timeout", "1m", "--quiet", "--esp", "aes128gcm16", "--pcap", pcap, "--keys", keys)
		cmd := exec.CommandContext(s.ctx, program(t, benchProgram), args...)
		cmd.Dir = s.dir
		if said, err := s.top.Devices[0].Run(s.ctx, cmd); err != nil {
			t.Fatalf("bench %s: %v\n%s", args[0], err, said)
		}
		return pcap, keys
	}
	for _, c := range []struct {
		args  []string
		auths int // AUTH payloads that are read, of both sides; what is slow is repeated
		inner int // datagrams inside ESP
	}{
		{args: []string{"ike", "--count", "3", "--duration", "0s", "--concurrency", "1"}, auths: 6},
		{args: []string{"resume", "--count", "3", "--duration", "0s", "--concurrency", "1"}, auths: 12},
		{args: []string{"roam", "--count", "3", "--duration", "0s", "--concurrency", "1"}, auths: 6},
		// The fourth asks the receiver.
		{args: []string{"esp", "--to", "10.2.0.2:5202", "--rate", "100", "--duration", "2s", "--pcap-limit", "20"}, auths: 8, inner: 15},
	} {
		t.Run(c.args[0], func(t *testing.T) {
			pcap, keys := run(c.args...)
			read := func(filter string) int {
				return strings.Count(tshark(s.ctx, t, pcap, keys, filter, "frame.number"), "\n")
			}
			if n := read("_ws.malformed || _ws.expert.severity == error"); n != 0 {
				t.Errorf("%d are malformed", n)
			}
			if n := read("isakmp.exchangetype == 35 && isakmp.typepayload == 39"); n < c.auths {
				t.Errorf("tshark decrypted %d AUTH payloads, want %d or more", n, c.auths)
			}
			if n := read("esp && udp.dstport == 5202"); n < c.inner {
				t.Errorf("tshark decrypted %d datagrams in ESP, want %d", n, c.inner)
			}
			if n := read("esp"); n > 20 {
				t.Errorf("%d packets of ESP are in the file", n)
			}
		})
	}
}
