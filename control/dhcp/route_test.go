package dhcp

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
)

// Destination descriptors: the table of RFC 3442 ("Classless Route Option
// Format").
func TestDestinationDescriptors(t *testing.T) {
	for network, want := range map[string][]byte{
		"0.0.0.0/0":        {0},
		"10.0.0.0/8":       {8, 10},
		"10.0.0.0/24":      {24, 10, 0, 0},
		"10.17.0.0/16":     {16, 10, 17},
		"10.27.129.0/24":   {24, 10, 27, 129},
		"10.229.0.128/25":  {25, 10, 229, 0, 128},
		"10.198.122.47/32": {32, 10, 198, 122, 47},
	} {
		got := appendRoute(nil, netip.MustParsePrefix(network), onLink)
		if want = append(want, 0, 0, 0, 0); !bytes.Equal(got, want) {
			t.Errorf("%s: % x, want % x", network, got, want)
		}
	}
}

// Whole options that others have published, from what works for them.
func TestPublishedRoutes(t *testing.T) {
	type route struct{ network, router string }
	for _, c := range []struct {
		source, want string
		routes       []route
	}{
		{"https://mike.ydn.id.au/routes-by-dhcp/ (option 249 for Windows)", "15acac00a8a8a8a8",
			[]route{{"172.172.0.0/21", "168.168.168.168"}}},
		{"http://nztik.blogspot.com/2013/12/ (RouterOS)", "18c0a837ac100a01",
			[]route{{"192.168.55.0/24", "172.16.10.1"}}},
		{"https://github.com/systemd/systemd/issues/40147", "18c0a8020a0000ff000a000001",
			[]route{{"192.168.2.0/24", "10.0.0.255"}, {"0.0.0.0/0", "10.0.0.1"}}},
		{"https://gist.github.com/teliot/e92ea7fd7f7ebd617d487c17904744be (ISC dhcpd, option 249)", "18c0a802c0a801fe",
			[]route{{"192.168.2.0/24", "192.168.1.254"}}},
	} {
		var got []byte
		for _, r := range c.routes {
			got = appendRoute(got, netip.MustParsePrefix(r.network), netip.MustParseAddr(r.router))
		}
		if hex.EncodeToString(got) != c.want {
			t.Errorf("%s: %x, want %s", c.source, got, c.want)
		}
	}
}

func TestHostBitsAreCleared(t *testing.T) {
	got := appendRoute(nil, netip.MustParsePrefix("10.1.2.255/25"), onLink)
	if want := []byte{25, 10, 1, 2, 128, 0, 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
}
