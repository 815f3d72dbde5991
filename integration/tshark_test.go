package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An independent decoder reads what gatewayd and strongSwan said to each
// other: with the keys that gatewayd exports, tshark finds every payload well
// formed, and the echo requests inside ESP.
//
//	dev1 (strongSwan) -- [capture] gw (gatewayd, debug.key_log) -- lan
func TestTsharkReadsTheCapture(t *testing.T) {
	s := newScenario(t, options{configure: func(s *scenario) { s.conf.KeyLog = "keys" }})
	pcap, keys := s.conversations(t)
	read := func(filter string, fields ...string) string {
		return tshark(s.ctx, t, pcap, keys, filter, fields...)
	}
	if bad := read("_ws.malformed || _ws.expert.severity == error"); bad != "" {
		t.Errorf("malformed:\n%s", bad)
	}
	// AUTH payloads (type 39) lie inside SK: two clients, both directions.
	if n := strings.Count(read("isakmp.exchangetype == 35 && isakmp.typepayload == 39", "frame.number"), "\n"); n < 4 {
		t.Errorf("tshark decrypted %d AUTH payloads, want 4, or more where one was repeated", n)
	}
	for _, kind := range []string{"8", "0"} {
		if n := strings.Count(read("esp && icmp.type == "+kind, "frame.number"), "\n"); n < 2 {
			t.Errorf("tshark decrypted %d ICMP messages of type %s in ESP, want 2 or more", n, kind)
		}
	}
}

// conversations has one client after the other connect, ping and disconnect,
// and returns the capture of it all and the folder with its keys.
func (s *scenario) conversations(t *testing.T) (pcap, keys string) {
	t.Helper()
	recorded := s.record(t, 0)
	for _, c := range []struct{ device, ike, esp string }{
		{"gcm", "aes128gcm16-prfsha256-x25519", "aes128gcm16"},
		{"cbc", "aes256-sha256-prfsha256-ecp256", "aes256-sha256"},
	} {
		client := s.client(t, s.top.Devices[0], s.root.device(t, c.device, keyECDSA(t)), proposals(c.ike, c.esp))
		s.ping(t, client, s.connect(t, client))
		if err := client.Disconnect(s.ctx); err != nil {
			t.Fatal(err)
		}
		if err := client.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	return recorded(), filepath.Join(s.dir, "keys")
}

func tshark(ctx context.Context, t *testing.T, pcap, keys, filter string, fields ...string) string {
	t.Helper()
	args := []string{"-n", "-r", pcap, "-Y", filter, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}
	if len(fields) > 0 {
		args = append(args, "-T", "fields")
		for _, f := range fields {
			args = append(args, "-e", f)
		}
	}
	cmd := exec.CommandContext(ctx, "tshark", args...)
	// Its profile is where the key tables are read from.
	cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+keys)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark %s: %v\n%s", filter, err, complaint.String())
	}
	return string(out)
}
