package xfrm

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/integration/netns"
)

// installsVariable says how many Child SAs TestXFRMInstallRate installs, where
// the default is too few.
const installsVariable = "ROAMGATE_INSTALLS"

// atOnce is how many Child SAs one Apply installs.
const atOnce = 100

// TestXFRMInstallRate installs Child SAs, two SAs and one policy each, in three
// ways, each in a namespace of its own, whose tables are empty: through the
// backend; the same messages, made before, with nothing in between (what the
// kernel takes whoever sends); and by `ip -batch`. The second is the floor of the
// first.
func TestXFRMInstallRate(t *testing.T) {
	netns.NeedKernelIPsec(t)
	installs := 2000
	if said := os.Getenv(installsVariable); said != "" {
		var err error
		installs, err = strconv.Atoi(said)
		check(t, err)
	}
	field := newField(t)
	newFleet(t, field, atOnce).apply(t) // what the kernel does only once

	f := newFleet(t, field, installs)
	backend := timed(func() { f.apply(t) })
	f.has(t, testIfID)

	f = newFleet(t, field, installs)
	runs := f.messages(t)
	kernel := timed(func() {
		for _, r := range runs {
			check(t, f.backend.conn.do(&r.q, nil)...)
		}
	})
	f.has(t, testIfID)

	f = newFleet(t, field, installs)
	script := f.script(t)
	var out []byte
	var err error
	theirs := timed(func() { out, err = f.Run(t.Context(), exec.Command("ip", "-batch", script)) })
	if err != nil {
		t.Fatalf("ip -batch: %v\n%.500s", err, out)
	}
	f.has(t, batchIfID)

	each := func(d time.Duration) time.Duration { return d / time.Duration(installs) }
	t.Logf("%d Child SAs, two SAs and a policy each, time for one: backend %v, of that the kernel %v (%.0f %%); ip -batch %v. The backend is %.2f times as fast as ip, and could be %.2f times",
		installs, each(backend), each(kernel), 100*kernel.Seconds()/backend.Seconds(), each(theirs), theirs.Seconds()/backend.Seconds(), theirs.Seconds()/kernel.Seconds())
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// fleet is a backend and the Child SAs that it is to get.
type fleet struct {
	*ground
	children []dataplane.Child
}

// batchIfID is that of what `ip -batch` installs.
const batchIfID = 0x99

func newFleet(t *testing.T, field *field, n int) *fleet {
	t.Helper()
	f := &fleet{ground: newGround(t, field)}
	f.config.Pools, f.config.MaxChildren = []netip.Prefix{netip.MustParsePrefix("10.128.0.0/16")}, n
	f.start(t, make(chan dataplane.Event, 16))
	// Devices are anywhere, at the same places for each fleet.
	random := rand.New(rand.NewPCG(1, 2))
	virtual := netip.MustParseAddr("10.128.0.1")
	for range n {
		remote := netip.AddrFrom4([4]byte{198, byte(18 + random.IntN(2)), byte(random.Uint32()), byte(random.Uint32())})
		f.children = append(f.children, childOf(t, f.ground, virtual, netip.AddrPortFrom(remote, 4500)))
		virtual = virtual.Next()
	}
	return f
}

// batches of children as they are applied together.
func (f *fleet) batches() [][]dataplane.Child {
	var all [][]dataplane.Child
	for at := 0; at < len(f.children); at += atOnce {
		all = append(all, f.children[at:min(at+atOnce, len(f.children))])
	}
	return all
}

func (f *fleet) apply(t *testing.T) {
	for _, children := range f.batches() {
		install(t, f.backend, children...)
	}
}

// messages that apply would send.
func (f *fleet) messages(t *testing.T) (runs []*run) {
	t.Helper()
	for _, children := range f.batches() {
		r := f.backend.newRun(2 * len(children))
		for i := range children {
			check(t, r.install(2*i, &children[i]), r.useOutbound(2*i+1, children[i].Inbound.SPI))
		}
		runs = append(runs, r)
	}
	return runs
}

// script for `ip -batch`.
func (f *fleet) script(t *testing.T) string {
	t.Helper()
	var script strings.Builder
	for i, c := range f.children {
		const end = " mode tunnel aead rfc4106(gcm(aes)) 0x%x 128 encap espinudp 4500 4500 0.0.0.0 if_id %#x flag esn replay-window 1024"
		virtual, remote := c.VirtualIPs[0], c.Path.Remote.Addr()
		fmt.Fprintf(&script, "xfrm state add src %v dst %v proto esp spi %#x reqid %d"+end+" sel src %v\n", remote, f.here4, uint32(c.Inbound.SPI), i+1, c.Inbound.Keys.Encryption, batchIfID, virtual)
		fmt.Fprintf(&script, "xfrm state add src %v dst %v proto esp spi %#x reqid %d"+end+" flag af-unspec\n", f.here4, remote, uint32(c.Outbound.SPI), i+1, c.Outbound.Keys.Encryption, batchIfID)
		fmt.Fprintf(&script, "xfrm policy add dst %v/32 dir out if_id %#x tmpl src %v dst %v proto esp spi %#x reqid %d mode tunnel\n", virtual, batchIfID, f.here4, remote, uint32(c.Outbound.SPI), i+1)
	}
	file := filepath.Join(t.TempDir(), "batch")
	check(t, os.WriteFile(file, []byte(script.String()), 0o600))
	return file
}

// has fails unless the kernel has all SAs and out policies of the fleet.
func (f *fleet) has(t *testing.T, ifID uint32) {
	t.Helper()
	policies, states := census(t, f.backend, ifID)
	if states != 2*len(f.children) || policies[dirOut] != len(f.children) {
		t.Errorf("%d Child SAs made %d SAs and %d policies", len(f.children), states, policies[dirOut])
	}
}
