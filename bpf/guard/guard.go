package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Guard is a program on an interface. Its methods may be called from any
// goroutine.
type Guard struct {
	spis    *spiTable
	objects objects
	link    link.Link
	mode    Mode
	dir     string
	pinned  bool
	took    bool // over from a predecessor
	reason  error
	events  *ringbuf.Reader

	mu       sync.Mutex // guards what follows, and the order in which it is written
	settings programSettings
	closed   bool
}

// objects of the collection that are used after loading.
type objects struct {
	Guard      *ebpf.Program `ebpf:"guard"`
	Locals     *ebpf.Map     `ebpf:"locals"`
	Config     *ebpf.Map     `ebpf:"config"`
	CookieKeys *ebpf.Map     `ebpf:"cookie_keys"`
	Allowed    *ebpf.Map     `ebpf:"allowed"`
	Verdicts   *ebpf.Map     `ebpf:"verdicts"`
	Events     *ebpf.Map     `ebpf:"events"`
}

func (o *objects) close() {
	for _, c := range []interface{ Close() error }{o.Guard, o.Locals, o.Config, o.CookieKeys, o.Allowed, o.Verdicts, o.Events} {
		_ = c.Close()
	}
}

// Open loads the program, with SPIs that a predecessor in Dir left, and attaches
// it; a predecessor's program is replaced, without a packet in between that
// neither saw. One that is pinned elsewhere is taken away ([Displace]). Every map is filled before. Nothing new is pinned: that is for
// [Guard.Pin], when it is certain that the gateway runs. Errors: ErrConfig, ErrAttach, and
// those of the kernel; then nothing is attached but, where it could not be taken
// away, what a former daemon left ([Clear], [Displace]).
func Open(cfg Config) (*Guard, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	g, err := load(&cfg)
	if err != nil {
		return nil, err
	}
	if err := g.attach(&cfg); err != nil {
		g.release()
		return nil, err
	}
	return g, nil
}

// load makes everything but the link.
func load(cfg *Config) (g *Guard, err error) {
	// Kernels before 5.11 count maps as locked memory; newer ones need nothing.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("limit of locked memory: %w", err)
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, err
	}
	spec.Maps[programMapSpis].MaxEntries = uint32(cfg.SPIs)
	spec.Maps[programMapSources].MaxEntries = uint32(cfg.Sources)
	g = &Guard{dir: cfg.Dir}
	if g.spis, err = openSPIs(cfg.Dir, spec.Maps[programMapSpis]); err != nil {
		return nil, err
	}
	err = spec.LoadAndAssign(&g.objects, &ebpf.CollectionOptions{
		MapReplacements: map[string]*ebpf.Map{programMapSpis: g.spis.table},
	})
	if err != nil {
		g.spis.close()
		return nil, fmt.Errorf("load the XDP program: %w", err)
	}
	g.events, err = ringbuf.NewReader(g.objects.Events)
	if err == nil {
		err = g.fill(cfg)
	}
	if err != nil {
		g.release()
		return nil, err
	}
	return g, nil
}

func (g *Guard) fill(cfg *Config) error {
	for _, a := range cfg.Locals {
		if err := g.objects.Locals.Put(address(a), uint32(1)); err != nil {
			return fmt.Errorf("local address %v: %w", a, err)
		}
	}
	g.settings.IkePort, g.settings.EncapPort = be16(cfg.IKEPort), be16(cfg.EncapPort)
	return g.Update(cfg.Settings)
}

// Update replaces the settings. With ErrConfig nothing has changed.
func (g *Guard) Update(s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, a := range s.Allow {
		if err := g.objects.Allowed.Put(uint32(i), allowEntry(a)); err != nil {
			return fmt.Errorf("allow %v: %w", a.Remote, err)
		}
	}
	next := g.settings
	r := &s.Rates
	for name, rate := range map[int]Rate{
		rateInit: r.Init, rateInitWide: r.InitWide, rateInitNarrow: r.InitNarrow,
		rateCookie: r.Cookie, rateCookieNarrow: r.CookieNarrow, rateFragment: r.Fragment, rateReport: r.Report,
	} {
		next.setRate(name, rate)
	}
	next.Shield, next.Allowed = 0, uint32(len(s.Allow))
	if s.Shield {
		next.Shield = 1
	}
	return g.write(next)
}

// The order of enum rate_name in maps.h.
const (
	rateInit = iota
	rateInitWide
	rateInitNarrow
	rateCookie
	rateCookieNarrow
	rateFragment
	rateReport
	rateSample
)

func (s *programSettings) setRate(name int, r Rate) {
	s.Rates[name].Interval, s.Rates[name].Burst = 0, 0
	if r.PerSecond > 0 {
		s.Rates[name].Interval = uint64(time.Second) / uint64(r.PerSecond)
		s.Rates[name].Burst = uint64(r.Burst-1) * s.Rates[name].Interval
	}
}

// write puts settings where the program reads them. A packet that is judged
// meanwhile may see some of both.
func (g *Guard) write(s programSettings) error {
	if g.closed {
		return ErrClosed
	}
	if err := g.objects.Config.Put(uint32(0), s); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	g.settings = s
	return nil
}

// Sample has dropped packets shown by [Guard.Next], at most so many a second; 0
// ends it.
func (g *Guard) Sample(perSecond int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := g.settings
	next.setRate(rateSample, Rate{PerSecond: perSecond, Burst: max(1, perSecond)})
	return g.write(next)
}

// CookieKey of one period of control/gate; Key is that of SipHash.
type CookieKey struct {
	Period uint64
	Key    [16]byte
}

// SetCookieKeys gives the keys of a period, and of those before and behind it,
// whose cookies are accepted. They hold for so long: where nobody renews them, no
// cookie is asked for any more.
func (g *Guard) SetCookieKeys(period uint64, keys []CookieKey, hold time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	for _, k := range keys {
		entry := programCookieKey{Period: k.Period}
		entry.Key[0], entry.Key[1] = binary.LittleEndian.Uint64(k.Key[:8]), binary.LittleEndian.Uint64(k.Key[8:])
		if err := g.objects.CookieKeys.Put(uint32(k.Period%4), entry); err != nil {
			return fmt.Errorf("cookie key: %w", err)
		}
	}
	next := g.settings
	next.CookiePeriod, next.CookiesUntil = period, uint64(monotonic()+hold)
	return g.write(next)
}

// monotonic is bpf_ktime_get_ns.
func monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it is always there
	return time.Duration(t.Nano())
}

// Verdicts counts packets since the guard was opened.
func (g *Guard) Verdicts() ([NumVerdicts]uint64, error) {
	var out [NumVerdicts]uint64
	for v := range out {
		var perCPU []uint64
		if err := g.objects.Verdicts.Lookup(uint32(v), &perCPU); err != nil {
			return out, fmt.Errorf("verdicts: %w", err)
		}
		for _, n := range perCPU {
			out[v] += n
		}
	}
	return out, nil
}

// Mode in which the program is attached: Native or Generic. The error says why
// it isn't native where that was tried.
func (g *Guard) Mode() (Mode, error) { return g.mode, g.reason }

// TookOver says whether filtering was in force before this guard was opened.
func (g *Guard) TookOver() bool { return g.took }

// Close lets go of the program. What is pinned stays in force: packets of the
// SPIs that are known pass, and no cookies are made once their keys are too old.
func (g *Guard) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	g.mu.Unlock()
	return g.release()
}

func (g *Guard) release() error {
	var errs []error
	if g.events != nil {
		errs = append(errs, g.events.Close())
	}
	if g.link != nil {
		errs = append(errs, g.link.Close())
	}
	g.objects.close()
	g.spis.close()
	return errors.Join(errs...)
}

func address(a netip.Addr) programAddress {
	var out programAddress
	b := a.As16()
	for i := range out.Word {
		out.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

func addrOf(a programAddress) netip.Addr {
	var b [16]byte
	for i, w := range a.Word {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrFrom16(b).Unmap()
}

// allowEntry of a prefix; the zero Prefix is every source of either family.
func allowEntry(a Allow) programAllow {
	e := programAllow{Port: be16(a.Port), RemotePort: be16(a.RemotePort), Protocol: a.Protocol}
	if !a.Remote.IsValid() {
		return e
	}
	bits := a.Remote.Bits()
	if a.Remote.Addr().Is4() {
		bits += 96
	}
	var mask [16]byte
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	e.Prefix, e.Mask = address(a.Remote.Addr()), address(netip.AddrFrom16(mask))
	return e
}

// be16 is a number as it lies in a packet.
func be16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
