package doctor

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func find(t *testing.T, checks []Check, name string) Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, checks)
	return Check{}
}

// Whatever the host is, each check says what it found, and each failure what to
// do.
func TestEveryCheckSaysSomething(t *testing.T) {
	for _, c := range Examine(Config{External: "lo", Internal: "nosuch0", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::1")}, IPv6: true}) {
		if c.Name == "" || c.Found == "" {
			t.Errorf("empty: %+v", c)
		}
		if c.State == Fail && c.Do == "" {
			t.Errorf("%s fails and doesn't say what to do: %+v", c.Name, c)
		}
	}
}

// A port that somebody has is reported with who has it.
func TestPortInUse(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	config := Config{Addresses: []netip.Addr{at.Addr()}, Ports: []uint16{at.Port()}}
	c := find(t, ports(config), "UDP "+at.String())
	if c.State != Fail || !strings.Contains(c.Found, strconv.Itoa(os.Getpid())) {
		t.Errorf("taken port: %+v", c)
	}
	conn.Close()
	if c := find(t, ports(config), "UDP "+at.String()); c.State != OK {
		t.Errorf("free port: %+v", c)
	}
	config.Running = true
	if c := find(t, ports(config), "ports"); c.State != OK {
		t.Errorf("our own gateway's ports: %+v", c)
	}
}

func TestPortErrors(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:500")
	for err, want := range map[error]string{
		unix.EADDRNOTAVAIL: "not an address of this host",
		unix.EACCES:        "not for this user",
		errors.New("odd"):  "odd",
	} {
		if c := portCheck("x", "udp", at, err); c.State != Fail || c.Found != want {
			t.Errorf("%v: %+v", err, c)
		}
	}
}

// Each address is looked at; IPv6 only where devices get it.
func TestAddresses(t *testing.T) {
	checks := interfaces(Config{External: "lo", Internal: "lo", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if c := find(t, checks, "interfaces"); c.State != Fail {
		t.Errorf("one interface for both: %+v", c)
	}
	two := ports(Config{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("ff02::1")}, Ports: []uint16{40500, 40501}})
	for _, name := range []string{"UDP 127.0.0.1:40500", "UDP 127.0.0.1:40501", "UDP [ff02::1]:40500", "UDP [ff02::1]:40501"} {
		find(t, two, name)
	}
	for _, ipv6 := range []bool{false, true} {
		found := slices.ContainsFunc(Examine(Config{IPv6: ipv6}), func(c Check) bool { return c.Name == "forwarding of IPv6" })
		if found != ipv6 {
			t.Errorf("IPv6 pools %v: forwarding of IPv6 asked %v", ipv6, found)
		}
	}
}

func TestInterfaces(t *testing.T) {
	if c := find(t, interfaces(Config{External: "nosuch0", Internal: "nosuch1"}), "interfaces"); c.State != Fail {
		t.Errorf("missing interfaces: %+v", c)
	}
	if c := interfaces(Config{}); c != nil {
		t.Errorf("nothing configured: %+v", c)
	}
}

func TestClockOfThePast(t *testing.T) {
	if c := clock(time.Unix(0, 0)); c.State != Fail {
		t.Errorf("1970: %+v", c)
	}
}

func TestFailed(t *testing.T) {
	if Failed([]Check{{State: OK}, {State: Warn}, {State: Info}}) || !Failed([]Check{{State: OK}, {State: Fail}}) {
		t.Error("only fail fails")
	}
}

// Root has BPF here, and everybody gets an answer that is none of an error.
func TestAccessLists(t *testing.T) {
	for _, needed := range []bool{false, true} {
		c := accessLists(needed)
		if c.State == Fail || c.Found == "" || c.Means == "" || os.Geteuid() == 0 && c.State != OK {
			t.Errorf("%+v", c)
		}
	}
}

// What the running gateway says counts.
func TestGuard(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   State
	}{
		"off":               {Config{Guard: "off"}, Info},
		"not running":       {Config{Guard: "auto", External: "eth0", GuardPins: "/nowhere/at/all"}, Info},
		"running, on":       {Config{Guard: "auto", GuardState: "native XDP"}, OK},
		"running, but off":  {Config{Guard: "auto", GuardState: "off (operation not permitted)"}, Warn},
		"pins in no bpf FS": {Config{Guard: "auto", GuardState: "generic XDP", GuardPins: "/proc/self"}, OK},
	} {
		got := find(t, guard(c.config), "guard")
		if got.State != c.want || got.Found == "" {
			t.Errorf("%s: %+v", name, got)
		}
		if c.config.GuardPins != "" && got.Do == "" {
			t.Errorf("%s: nothing to do about pins: %+v", name, got)
		}
	}
	if got := guard(Config{}); got != nil {
		t.Errorf("nothing configured: %+v", got)
	}
}
