package integration

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/traffic"
)

// record as those who keep account read it.
type record struct {
	Event      string         `json:"event"`
	Session    string         `json:"session"`
	Device     string         `json:"device"`
	VirtualIPs []netip.Addr   `json:"virtual_ips"`
	Remote     netip.AddrPort `json:"remote"`
	IKE        string         `json:"ike"`
	ESP        string         `json:"esp"`
	Auth       string         `json:"auth"`
	BytesIn    uint64         `json:"bytes_in"`
	BytesOut   uint64         `json:"bytes_out"`
	Reason     string         `json:"reason"`
}

// Two sessions are written down: when they came up, and how they ended with how
// much they carried, also over a rekeying.
//
//	dev1 (strongSwan, says goodbye) -- net -- gw (gatewayd, records.file) -- lan
//	dev2 (strongSwan, is sent away) -/
func TestSessionRecords(t *testing.T) {
	const size = 4 << 20
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		s.conf.Records = "sessions.jsonl"
		s.conf.ESPSoft = 2 << 20 // so that it counts over several Child SAs
	}})
	want := map[string]record{}
	for _, c := range []struct{ device, reason string }{{"dev1", "peer_deleted"}, {"dev2", "killed"}} {
		dev := s.top.Devices[len(want)]
		client := s.client(t, dev, s.root.device(t, c.device, keyECDSA(t)))
		address := s.connect(t, client)
		if _, err := traffic.TCP(s.ctx, dev.Namespace, s.top.LAN, netns.LANHost, size); err != nil {
			t.Fatal(err)
		}
		if _, err := traffic.TCP(s.ctx, s.top.LAN, dev.Namespace, address, size); err != nil {
			t.Fatal(err)
		}
		session := s.sessions(t)[0]
		want[c.device] = record{
			Session: session.ID, Device: c.device, VirtualIPs: session.VirtualIPs, Remote: session.Remote,
			IKE: session.IKE, ESP: session.Children[0].ESP, Auth: session.Auth, Reason: c.reason,
		}
		if c.reason == "killed" {
			if _, err := s.gw.Command(s.ctx, "session", "kill", c.device); err != nil {
				t.Fatal(err)
			}
		} else if err := client.Disconnect(s.ctx); err != nil {
			t.Fatal(err)
		}
		s.eventually(t, "no session", func() (bool, string) {
			sessions := s.sessions(t)
			return len(sessions) == 0, spell(sessions)
		})
	}
	var records []record
	s.eventually(t, "four records", func() (bool, string) {
		records = s.records(t)
		return len(records) == 4, spell(records)
	})
	for i, got := range records {
		expected := want[got.Device]
		expected.Event = "start"
		if i%2 == 0 {
			expected.Reason = ""
		} else {
			expected.Event = "stop"
			if got.BytesIn < size || got.BytesOut < size || got.BytesIn > 2*size || got.BytesOut > 2*size {
				t.Errorf("%s carried %d octets in and %d out, want a little over %d each", got.Device, got.BytesIn, got.BytesOut, size)
			}
		}
		got.BytesIn, got.BytesOut = 0, 0
		if spell(got) != spell(expected) {
			t.Errorf("record %d is\n%+v, want\n%+v", i, got, expected)
		}
	}
}

func (s *scenario) records(t *testing.T) (records []record) {
	t.Helper()
	file, err := os.Open(filepath.Join(s.dir, s.conf.Records))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		records = append(records, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return records
}
