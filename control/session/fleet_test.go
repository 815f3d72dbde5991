package session

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// A fleet is what a session costs at scale: devices that are nothing but an
// ike.Machine while they connect and rekey, and are gone afterwards, so that
// what is left in the process is the gateway's. The data plane keeps an SPI of
// each Child SA and nothing else.

// fleetEnv is how many devices TestFleet brings up; fleetProfileEnv names a file
// for its heap profile.
const (
	fleetEnv        = "ROAMGATE_FLEET"
	fleetProfileEnv = "ROAMGATE_FLEET_PROFILE"
	fleetDrivers    = 32
)

// fleetNet is the data plane and the network of a fleet.
type fleetNet struct {
	mu      sync.Mutex
	next    dataplane.SPI
	inbox   chan dataplane.Datagram
	closed  chan struct{}
	drivers [fleetDrivers]chan dataplane.Datagram
}

func newFleetNet() *fleetNet {
	n := &fleetNet{next: 0x1000, inbox: make(chan dataplane.Datagram, 1024), closed: make(chan struct{})}
	for i := range n.drivers {
		n.drivers[i] = make(chan dataplane.Datagram, 64)
	}
	return n
}

func (n *fleetNet) Features() dataplane.Features { return dataplane.Features{} }

func (n *fleetNet) Reserve(netip.Addr) (dataplane.SPI, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	return n.next, nil
}

func (n *fleetNet) Apply(changes []dataplane.Change) []error     { return make([]error, len(changes)) }
func (n *fleetNet) Counters(func(dataplane.ChildCounters) bool)  {}
func (n *fleetNet) Drops() dataplane.Drops                       { return dataplane.Drops{} }
func (n *fleetNet) Transport() dataplane.IKETransport            { return n }
func (n *fleetNet) Export(func(dataplane.ChildState) bool) error { return nil }
func (n *fleetNet) Import([]dataplane.ChildState) error          { return nil }
func (n *fleetNet) Close() error                                 { close(n.closed); return nil }
func (n *fleetNet) driver(a netip.Addr) chan<- dataplane.Datagram {
	b := a.As4()
	return n.drivers[b[3]%fleetDrivers]
}

func (n *fleetNet) Receive(batch []dataplane.Datagram) (int, error) {
	select {
	case d := <-n.inbox:
		d.Data = batch[0].Data[:copy(batch[0].Data, d.Data)]
		batch[0] = d
		return 1, nil
	case <-n.closed:
		return 0, dataplane.ErrClosed
	}
}

func (n *fleetNet) Send(batch []dataplane.Datagram) (int, error) {
	for _, d := range batch {
		d.Data = slices.Clone(d.Data)
		d.Local, d.Remote = d.Remote, d.Local
		select {
		case n.driver(d.Local.Addr()) <- d:
		default: // lost; it is repeated
		}
	}
	return len(batch), nil
}

// fleet is a gateway and those who connect to it.
type fleet struct {
	t      *testing.T
	net    *fleetNet
	ca     *authority
	key    *ecdsa.PrivateKey // of all devices
	server *Server
	leases *lease.Registry
	stop   func()
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, net: newFleetNet(), ca: newAuthority(t)}
	var err error
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if f.leases, err = lease.Open("", lease.Config{Pools: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")}}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Settings: Settings{
			IKE: f.ca.ike("gw.example", 24*time.Hour), Admit: f.ca.policy(),
			Gate:     gate.Config{MaxHalfOpen: 1 << 20, CookieAt: 1<<20 - 1, MaxHalfOpenPrefix: 1 << 20, CookieAtPrefix: 1<<20 - 1},
			Liveness: LivenessConfig{Idle: time.Minute},
		},
		Shards: 2, Backend: f.net, Leases: f.leases,
	}
	cfg.IKE.ForceUDP, cfg.IKE.MOBIKE, cfg.IKE.FragmentSize = true, true, 1280
	cfg.IKE.ChildLife = ike.Lifetime{Rekey: time.Hour, Jitter: 10 * time.Minute, Hard: 25 * time.Hour}
	cfg.IKE.IKELife = ike.Lifetime{Rekey: 4 * time.Hour, Jitter: time.Hour, Hard: 25 * time.Hour}
	if f.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.server.Run(ctx) }()
	f.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = f.net.Close()
		if err := f.leases.Close(); err != nil {
			t.Error(err)
		}
	}
	return f
}

// config of device number i. All have one key, and each its own certificate.
func (f *fleet) config(i int) *ike.Config {
	name := fmt.Sprintf("device-%08d.fleet.example", i)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i) + 1000),
		Subject:      pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.ca.cert, f.key.Public(), f.ca.key)
	if err != nil {
		f.t.Error(err)
	}
	cfg := *f.server.settings.Load().IKE
	cfg.ID = &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(name)}
	cfg.Credentials = []ike.Credential{{Chain: [][]byte{der}, Signer: f.key}}
	cfg.Retransmit, cfg.Tries, cfg.HalfOpen = 2*time.Second, 6, time.Minute
	return &cfg
}

// fleetDevice connects, rekeys its Child SA and its IKE SA, and is forgotten.
type fleetDevice struct {
	f        *fleet
	sas      []*peerSA
	inputs   []peerInput
	inbound  dataplane.SPI
	spi      uint64
	children int
	rekeyed  int
	failed   string
}

// drive brings up the devices whose address ends in one of this driver's.
func (f *fleet) drive(number, from, to int) {
	for i := from; i < to; i++ {
		b := [4]byte{10}
		binary.BigEndian.PutUint32(b[:], 10<<24|uint32(i))
		if int(b[3])%fleetDrivers != number {
			continue
		}
		d := &fleetDevice{f: f, spi: uint64(i+1) << 16}
		if !d.live(netip.AddrFrom4(b), f.config(i), f.net.drivers[number]) {
			f.t.Errorf("device %d did not get through: %d children, %d rekeyed, %s", i, d.children, d.rekeyed, d.failed)
			return
		}
	}
}

func (d *fleetDevice) live(addr netip.Addr, cfg *ike.Config, inbox <-chan dataplane.Datagram) bool {
	m := ike.NewInitiator(&ike.InitiatorConfig{
		Config: cfg,
		Local:  netip.AddrPortFrom(addr, 500), Remote: gatewayIKE,
		LocalNATT: netip.AddrPortFrom(addr, 4500), RemoteNATT: gatewayNATT,
	}, d.spi)
	d.sas = []*peerSA{{m, d.spi, true}}
	d.inputs = []peerInput{{d.sas[0], ike.Tick{}}}
	for end := time.Now().Add(time.Minute); d.rekeyed == 0 && time.Now().Before(end) && d.failed == ""; {
		for len(d.inputs) > 0 {
			next := d.inputs[0]
			d.inputs = d.inputs[1:]
			for _, o := range slices.Clone(next.sa.m.Step(time.Now(), next.in)) {
				d.carryOut(next.sa, o)
			}
		}
		if d.rekeyed > 0 {
			break
		}
		select {
		case p := <-inbox:
			h, err := ikewire.ParseHeader(p.Data)
			if err != nil || p.Local.Addr() != addr {
				continue // of the one before
			}
			for _, sa := range d.sas {
				if sa.original != h.FromInitiator() && (sa.original && sa.spi == h.InitiatorSPI || !sa.original && sa.spi == h.ResponderSPI) {
					d.inputs = append(d.inputs, peerInput{sa, ike.Message{Data: p.Data, Local: p.Local, Remote: p.Remote, Marker: p.Marker}})
				}
			}
		case <-time.After(500 * time.Millisecond):
			for _, sa := range d.sas {
				d.inputs = append(d.inputs, peerInput{sa, ike.Tick{}})
			}
		}
	}
	return d.rekeyed > 0
}

func (d *fleetDevice) carryOut(sa *peerSA, o ike.Output) {
	then := func(in ike.Input) { d.inputs = append(d.inputs, peerInput{sa, in}) }
	switch o := o.(type) {
	case ike.Send:
		d.f.net.inbox <- dataplane.Datagram{Data: o.Data, Local: o.Remote, Remote: o.Local, Marker: o.Marker}
	case ike.Work:
		if o.Name == "verify" { // the gateway is trusted, its time is what counts
			then(ike.WorkDone{ID: o.ID})
			return
		}
		then(ike.WorkDone{ID: o.ID, Result: o.Do()})
	case ike.AskAdmit:
		then(ike.Admitted{Device: "gateway", PublicKey: crypto.PublicKey(&d.f.key.PublicKey)})
	case ike.Reserve:
		d.inbound++
		then(ike.Reserved{ID: o.ID, SPI: 0xd000 + d.inbound})
	case ike.ReserveIKE:
		d.spi++
		then(ike.ReservedIKE{ID: o.ID, SPI: d.spi})
	case ike.Apply:
		if o.Wait {
			then(ike.Applied{ID: o.ID})
		}
	case ike.Established:
		then(ike.Rekey{Inbound: o.Summary.Inbound})
	case ike.ChildUp:
		d.children++
	case ike.ChildDown:
		d.rekeyed++
	case ike.Closed:
		d.failed = string(o.Reason) + " " + o.Detail
	}
}

// up brings up devices from to to-1, and returns how long that took.
func (f *fleet) up(from, to int) time.Duration {
	began := time.Now()
	var wg sync.WaitGroup
	for number := range fleetDrivers {
		wg.Go(func() { f.drive(number, from, to) })
	}
	wg.Wait()
	return time.Since(began)
}

// resident memory of this process in bytes, after what is free was given back.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	file, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.Atoi(fields[1])
			return kib << 10
		}
	}
	t.Fatal("/proc/self/status has no VmRSS")
	return 0
}

// heapBy sums up the heap in use by the innermost function of ours that
// allocated it.
func heapBy() map[string]int64 {
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 1<<16)
	n, _ := runtime.MemProfile(records, false)
	sums := make(map[string]int64)
	for _, r := range records[:n] {
		name := "others"
		for frames, more := runtime.CallersFrames(r.Stack()), true; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if i := strings.Index(f.Function, "roamgate/roamgate/"); i >= 0 {
				name = f.Function[i+len("roamgate/roamgate/"):]
				break
			}
		}
		if n := r.InUseObjects(); n > 0 { // sampled: runtime.MemProfileRate
			each := float64(r.InUseBytes()) / float64(n)
			sums[name] += int64(float64(r.InUseBytes()) / (1 - math.Exp(-each/float64(runtime.MemProfileRate))))
		}
	}
	return sums
}

// begin has devices from to to-1 begin, and never finish: of their IKE_AUTH, in
// fragments, the last one doesn't come.
func (f *fleet) begin(from, to int) {
	for i := from; i < to; i++ {
		cfg := f.config(i)
		filler := make([]byte, 8<<10)
		_, _ = rand.Read(filler)
		cfg.Credentials[0].Chain = append(cfg.Credentials[0].Chain, filler)
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		d := &fleetDevice{f: f, spi: uint64(i+1) << 16}
		m := ike.NewInitiator(&ike.InitiatorConfig{
			Config: cfg,
			Local:  netip.AddrPortFrom(addr, 500), Remote: gatewayIKE,
			LocalNATT: netip.AddrPortFrom(addr, 4500), RemoteNATT: gatewayNATT,
		}, d.spi)
		sa := &peerSA{m, d.spi, true}
		d.sas, d.inputs = []*peerSA{sa}, []peerInput{{sa, ike.Tick{}}}
		for answered := false; ; {
			for len(d.inputs) > 0 {
				out := m.Step(time.Now(), d.inputs[0].in)
				d.inputs = d.inputs[1:]
				if _, isSend := out[len(out)-1].(ike.Send); answered && isSend {
					out = out[:len(out)-1]
				}
				for _, o := range out {
					d.carryOut(sa, o)
				}
			}
			if answered {
				break
			}
			p := <-f.net.drivers[addr.As4()[3]%fleetDrivers]
			d.inputs = append(d.inputs, peerInput{sa, ike.Message{Data: p.Data, Local: p.Local, Remote: p.Remote, Marker: p.Marker}})
			answered = true
		}
	}
}

// What a stranger costs that sends as much as it may and never finishes.
func TestFleetHalfOpen(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv(fleetEnv))
	if err != nil {
		t.Skipf("set %s to the number of devices", fleetEnv)
	}
	profile := os.Getenv(fleetProfileEnv)
	runtime.MemProfileRate = 0
	if profile != "" {
		runtime.MemProfileRate = 1024
	}
	f := newFleet(t)
	f.begin(0, 100)
	before, heapBefore := resident(t), heapBy()
	f.begin(100, 100+n)
	time.Sleep(time.Second)
	each := func(bytes int64) float64 { return float64(bytes) / float64(n) }
	t.Logf("%d half-open, resident %.0f B each", f.server.Stats().HalfOpen, each(int64(resident(t)-before)))
	if profile != "" {
		f.tell(heapBefore, profile, each)
	}
	f.stop()
}

// tell what the heap of a session is made of, and write a profile of it.
func (f *fleet) tell(before map[string]int64, profile string, each func(int64) float64) {
	sums := heapBy()
	var names []string
	for name := range sums {
		if sums[name] -= before[name]; each(sums[name]) >= 1 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return int(sums[b] - sums[a]) })
	for _, name := range names {
		f.t.Logf("%8.0f B  %s", each(sums[name]), name)
	}
	file, err := os.Create(profile)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	if err := pprof.Lookup("heap").WriteTo(file, 0); err != nil {
		f.t.Error(err)
	}
}

// What a session costs, by component. Not in the gate: 100,000 take minutes.
func TestFleet(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv(fleetEnv))
	if err != nil {
		t.Skipf("set %s to the number of devices", fleetEnv)
	}
	profile := os.Getenv(fleetProfileEnv)
	runtime.MemProfileRate = 0 // profiling takes memory itself
	if profile != "" {
		runtime.MemProfileRate = 1024
	}
	f := newFleet(t)
	f.up(0, 100) // what there is only once
	before := resident(t)
	heapBefore := heapBy()
	var ms, after runtime.MemStats
	runtime.ReadMemStats(&ms)
	took := f.up(100, 100+n)
	t.Logf("%d sessions in %v, %.0f a second with the devices' own computations", n, took.Round(time.Millisecond), float64(n)/took.Seconds())
	time.Sleep(17 * time.Second) // lingering, and what is dropped when idle
	now := resident(t)
	runtime.ReadMemStats(&after)
	each := func(bytes int64) float64 { return float64(bytes) / float64(n) }
	t.Logf("resident %.0f B, heap %.0f B a session, %.1f objects",
		each(int64(now-before)), each(int64(after.HeapAlloc)-int64(ms.HeapAlloc)), each(int64(after.HeapObjects)-int64(ms.HeapObjects)))
	if profile != "" {
		f.tell(heapBefore, profile, each)
	}
	if got := f.server.Stats().Established; got != n+100 {
		t.Errorf("%d sessions, want %d", got, n+100)
	}
	began := time.Now()
	runtime.GC()
	t.Logf("a collection takes %v", time.Since(began).Round(time.Millisecond))
	f.stop()
}
