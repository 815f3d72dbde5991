package hostroute

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/integration/netns"
)

const (
	table    = 1009
	protocol = 201
)

// world is a namespace with an interface that stands for the tunnel's.
type world struct {
	t      *testing.T
	gw     *netns.Namespace
	routes *Routes
}

func newWorld(t *testing.T) *world {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	w := &world{t: t}
	var ends [2]*netns.Namespace
	for i, role := range []string{"gw", "other"} {
		n, err := netns.New(fmt.Sprintf("rghr-%s-%d", role, os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		ends[i] = n
	}
	w.gw = ends[0]
	w.must(netns.Connect(w.gw, "tunnel", netip.MustParsePrefix("169.254.1.1/24"), ends[1], "tunnel", netip.MustParsePrefix("169.254.1.2/24")))
	w.must(w.gw.Do(func() (err error) {
		w.routes, err = New(Config{Interface: "tunnel", Table: table, Protocol: protocol, Logger: slog.New(slog.DiscardHandler)})
		return err
	}))
	t.Cleanup(func() { w.routes.Close() })
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// child with addresses, as they are written.
func child(spi dataplane.SPI, addresses ...string) *dataplane.Child {
	c := &dataplane.Child{Inbound: dataplane.SA{SPI: spi}}
	for _, a := range addresses {
		c.VirtualIPs = append(c.VirtualIPs, netip.MustParseAddr(a))
	}
	return c
}

func (w *world) admit(children ...*dataplane.Child) {
	w.t.Helper()
	for _, err := range w.routes.Admit(children) {
		w.must(err)
	}
}

// kernel returns the destinations in the table, in order.
func (w *world) kernel() (list []string) {
	w.t.Helper()
	w.must(w.gw.Do(func() error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			found, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return err
			}
			for _, r := range found {
				if int(r.Protocol) != protocol {
					return fmt.Errorf("%v has protocol %d", r.Dst, r.Protocol)
				}
				list = append(list, r.Dst.String())
			}
		}
		return nil
	}))
	slices.Sort(list)
	return list
}

// until the kernel has these.
func (w *world) until(want ...string) {
	w.t.Helper()
	for {
		got := w.kernel()
		if slices.Equal(got, want) {
			return
		}
		if w.t.Context().Err() != nil {
			w.t.Fatalf("routes %v, want %v", got, want)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// TestRoutesFollowDevices: a route is there from the first Child SA with an
// address until the last one goes, whatever is rekeyed meanwhile.
func TestRoutesFollowDevices(t *testing.T) {
	w := newWorld(t)
	w.admit(child(1, "10.9.0.1", "fd00:9::1"), child(2, "10.9.0.2"))
	w.until("10.9.0.1/32", "10.9.0.2/32", "fd00:9::1/128")
	// A rekeying: the new one, then the old one goes.
	w.admit(child(3, "10.9.0.1", "fd00:9::1"))
	w.routes.Forget([]dataplane.SPI{1})
	w.routes.Forget([]dataplane.SPI{1, 99})
	w.until("10.9.0.1/32", "10.9.0.2/32", "fd00:9::1/128")
	// One that is known says something new.
	w.admit(child(2, "10.9.0.7"))
	w.until("10.9.0.1/32", "10.9.0.7/32", "fd00:9::1/128")
	w.routes.Forget([]dataplane.SPI{3})
	w.until("10.9.0.7/32")
	if s := w.routes.Stats(); s != (Stats{Routes: 1}) {
		t.Errorf("%+v", s)
	}
	w.must(w.routes.Close())
	w.until()
}

// TestManyAtOnce: what comes and goes faster than the kernel is asked ends as it
// should.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 2000 {
		spi := dataplane.SPI(i)
		a := fmt.Sprintf("10.9.%d.%d", i/200, i%200+1)
		w.admit(child(spi, a))
		if i%4 != 0 {
			w.routes.Forget([]dataplane.SPI{spi})
			continue
		}
		want = append(want, a+"/32")
	}
	slices.Sort(want)
	w.until(want...)
	if s := w.routes.Stats(); s != (Stats{Routes: len(want)}) {
		t.Errorf("%+v", s)
	}
}

// TestRefusedIsTriedAgain: a kernel that refuses holds back nobody, and gets the
// routes once it takes them.
func TestRefusedIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.must(w.gw.SetLink("tunnel", false))
	w.admit(child(1, "10.9.0.1"))
	for w.routes.Stats().Refused == 0 {
		time.Sleep(2 * time.Millisecond)
	}
	if s := w.routes.Stats(); s.Routes != 1 || s.Waiting != 1 {
		t.Errorf("%+v", s)
	}
	w.must(w.gw.SetLink("tunnel", true))
	w.until("10.9.0.1/32")
}

func TestNoInterface(t *testing.T) {
	_, err := New(Config{Interface: "rg-not-there", Table: table, Protocol: protocol})
	if err == nil || !strings.Contains(err.Error(), "rg-not-there") {
		t.Errorf("got %v", err)
	}
}
