package lease

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string // in the error; "" for a good one
	}{
		{"good", Config{Pools: prefixes("10.0.0.0/24", "2001:db8::/64"), Exclude: addrs("10.0.0.1", "192.0.2.1")}, ""},
		{"single address", Config{Pools: prefixes("10.0.0.7/32")}, ""},
		{"zero prefix", Config{Pools: make([]netip.Prefix, 1)}, "not a prefix"},
		{"host bits", Config{Pools: prefixes("10.0.0.5/24")}, "want 10.0.0.0/24"},
		{"mapped", Config{Pools: prefixes("::ffff:10.0.0.0/120")}, "write an IPv4 pool as such"},
		{"multicast", Config{Pools: prefixes("239.0.0.0/24")}, "holds no host addresses"},
		{"everything", Config{Pools: prefixes("0.0.0.0/0")}, "holds no host addresses"},
		{"overlap", Config{Pools: prefixes("10.0.0.0/8", "10.1.0.0/16")}, "10.1.0.0/16 overlaps pool 10.0.0.0/8"},
		{"all excluded", Config{Pools: prefixes("10.0.0.0/31"), Exclude: addrs("10.0.0.0", "10.0.0.1", "10.0.0.1")}, "every IPv4 address is excluded"},
		{"zero exclusion", Config{Pools: prefixes("10.0.0.0/24"), Exclude: make([]netip.Addr, 1)}, "excluded address"},
		{"zone", Config{Pools: prefixes("10.0.0.0/24"), Exclude: addrs("2001:db8::1%eth0")}, "excluded address"},
		{"queue", Config{Pools: prefixes("10.0.0.0/24"), Queue: -1}, "queue -1"},
		{"interval", Config{Pools: prefixes("10.0.0.0/24"), SaveInterval: -1}, "save interval"},
	} {
		err := c.cfg.Validate()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCapacity(t *testing.T) {
	for pool, want := range map[string]uint64{
		"10.0.0.0/24": 254, "10.0.0.0/30": 2, "10.0.0.0/31": 2, "10.0.0.0/32": 1,
		"2001:db8::/120": 255, "2001:db8::/127": 2, "2001:db8::/128": 1, "2001:db8::/64": 1<<64 - 1,
	} {
		spaces, err := Config{Pools: prefixes(pool)}.build()
		if err != nil {
			t.Fatal(err)
		}
		if got := spaces[0].capacity + spaces[1].capacity; got != want {
			t.Errorf("%s: %d, want %d", pool, got, want)
		}
	}
}
