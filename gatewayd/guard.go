package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/guard"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

const (
	// cookieRenewal is how often the guard is given cookie keys, which hold for
	// cookieHold: when gatewayd is gone, nobody else asks for cookies.
	cookieRenewal = 5 * time.Second
	cookieHold    = 2 * gate.CookiePeriod
	// guardSources is how many source prefixes are remembered.
	guardSources = 1 << 16
	// guardSamples of dropped packets are shown a second, to at most maxWatchers.
	guardSamples = 100
	maxWatchers  = 8
)

// guardLayer is the XDP program as a layer before the data plane. The zero value
// and nil are one that is off.
type guardLayer struct {
	guard  *guard.Guard
	logger *slog.Logger
	events chan<- dataplane.Event
	secret gate.Secret
	why    string // it is off, or not native
	pinned bool   // it is to be, and then it is
	// pins is where, and record the file that says so to the next run.
	pins, record string

	over    chan struct{}
	running sync.WaitGroup

	mu       sync.Mutex
	watchers map[chan local.DroppedPacket]struct{}
}

var _ dataplane.Layer = (*guardLayer)(nil)

// openGuard attaches the guard. Where that fails the gateway works without, and
// the log says why. With an error a guard of a former run may be in force that
// can't be taken away.
func openGuard(c *config.Config, secret gate.Secret, events chan<- dataplane.Event, logger *slog.Logger) (*guardLayer, error) {
	l := &guardLayer{
		logger: logger, events: events, secret: secret,
		over: make(chan struct{}), watchers: make(map[chan local.DroppedPacket]struct{}),
	}
	g := &c.Gateway
	link, err := net.InterfaceByName(g.External.Interface)
	if err != nil {
		return nil, fmt.Errorf("gateway.external.interface %s: %w", g.External.Interface, err)
	}
	pins := guardPins(c, link.Index)
	if g.Guard.Mode == config.GuardOff {
		l.why = "gateway.guard.mode is off"
		return l, l.without(c, link.Index)
	}
	if pins != "" && !guard.Pinnable(c.Path(g.Guard.Pins)) {
		logger.Warn("guard ends with gatewayd: no BPF file system", slog.String("pins", g.Guard.Pins))
		pins = ""
	}
	if found, err := clearElsewhere(c, pins); err != nil {
		return nil, fmt.Errorf("the guard of a former run is in force and would drop ESP; take it away as root with `gatewayd guard remove`: %w", err)
	} else if found {
		logger.Info("guard of a former run taken away: gateway.guard.pins has changed")
	}
	if l.pinned = pins != ""; l.pinned {
		l.pins, l.record = pins, guardRecord(c)
		sweepPins(c.Path(g.Guard.Pins), logger)
	}
	open := guard.Config{
		Interface: link.Index, Mode: guardMode(g.Guard.Mode, link.Name), Locals: g.External.Addresses(),
		IKEPort: g.External.Port, EncapPort: g.External.NATTPort,
		SPIs: min(maxChildren(g.Limits.Sessions), guard.MaxSPIs), Sources: guardSources,
		Dir: pins, Settings: g.Guard.Settings(),
	}
	l.guard, err = guard.Open(open)
	if err != nil {
		l.why = err.Error()
		logger.Warn("guard is off: floods reach the gateway", slog.Any("error", err))
		return l, l.without(c, link.Index)
	}
	return l, l.begin(link.Name)
}

// begin reconciles what a former run left, and starts what runs beside.
func (l *guardLayer) begin(name string) error {
	mode, notNative := l.guard.Mode()
	if notNative != nil {
		l.why = notNative.Error()
		l.logger.Info("guard: no native XDP", slog.Any("error", notNative))
	}
	// A restart ends sessions, so no SPI of a former run is known.
	stale, err := l.guard.Retain(func(uint32) bool { return false })
	if err == nil {
		err = l.renewCookies(time.Now())
	}
	if err != nil {
		return errors.Join(err, l.guard.Close())
	}
	l.logger.Info("guard is on", slog.String("interface", name), slog.String("xdp", mode.String()),
		slog.Bool("took_over", l.guard.TookOver()), slog.Int("stale_spis", stale))
	l.running.Go(l.followEvents)
	l.running.Go(l.followClock)
	return nil
}

// keep has the guard stay in force when the gateway ends, from now on: a start
// that failed leaves nothing. Pinning is for root where the BPF file system is as
// systemd makes it.
func (l *guardLayer) keep() {
	if l.off() || !l.pinned {
		return
	}
	err := os.WriteFile(l.record, []byte(l.pins+"\n"), 0o600)
	if err == nil {
		err = l.guard.Pin()
	}
	if err != nil {
		l.pinned = false
		l.logger.Warn("guard ends with gatewayd", slog.Any("error", err))
	}
}

// guardPins is the folder of the guard of an interface in this network
// namespace: folders of the same BPF file system are seen in all of them.
func guardPins(c *config.Config, index int) string {
	if c.Gateway.Guard.Pins == "" {
		return ""
	}
	return filepath.Join(c.Path(c.Gateway.Guard.Pins), namespacePrefix()+strconv.Itoa(index))
}

// namespacePrefix tells network namespaces apart, as long as they live.
func namespacePrefix() string {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return "0-"
	}
	return fmt.Sprintf("%d-", ns.Ino)
}

// sweepPins takes away what was left for interfaces that are gone; their links
// went with them.
func sweepPins(dir string, logger *slog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there is none yet
	}
	for _, e := range entries {
		text, ours := strings.CutPrefix(e.Name(), namespacePrefix())
		index, err := strconv.Atoi(text)
		if !ours || err != nil {
			continue
		}
		if _, err := net.InterfaceByIndex(index); err == nil {
			continue
		}
		if _, err := guard.Clear(filepath.Join(dir, e.Name())); err != nil {
			logger.Warn("guard of an interface that is gone", slog.Any("error", err))
		}
	}
}

// guardMode: native XDP of a veth sends nothing back unless the other end polls
// too, and takes away its segmentation offload; generic XDP does neither.
func guardMode(m config.GuardMode, name string) guard.Mode {
	switch m {
	case config.GuardNative:
		return guard.Native
	case config.GuardGeneric:
		return guard.Generic
	case config.GuardAuto, config.GuardOff:
	}
	if l, err := netlink.LinkByName(name); err == nil && l.Type() == "veth" {
		return guard.Generic
	}
	return guard.Auto
}

// layers to put before the data plane: none if the guard is off.
func (l *guardLayer) layers() []dataplane.Layer {
	if l.off() {
		return nil
	}
	return []dataplane.Layer{l}
}

func (l *guardLayer) off() bool { return l == nil || l.guard == nil }

// Admit puts the SPIs into the table, so that the peer's first packet passes.
func (l *guardLayer) Admit(children []*dataplane.Child) []error {
	spis := make([]uint32, len(children))
	for i, c := range children {
		spis[i] = uint32(c.Inbound.SPI)
	}
	errs := l.guard.Add(spis)
	for i, err := range errs {
		if errors.Is(err, guard.ErrFull) {
			errs[i] = fmt.Errorf("%w: %w", dataplane.ErrFull, err)
		}
	}
	return errs
}

// Regroup: the guard knows no groups.
func (l *guardLayer) Regroup(dataplane.SPI, string) error { return nil }

// Forget takes them out.
func (l *guardLayer) Forget(inbound []dataplane.SPI) {
	spis := make([]uint32, len(inbound))
	for i, spi := range inbound {
		spis[i] = uint32(spi)
	}
	if err := l.guard.Remove(spis); err != nil {
		l.logger.Error("guard", slog.Any("error", err))
	}
}

func (l *guardLayer) renewCookies(now time.Time) error {
	period, keys := gate.CookieKeys(&l.secret, now)
	shared := make([]guard.CookieKey, len(keys))
	for i, k := range keys {
		shared[i] = guard.CookieKey(k)
	}
	return l.guard.SetCookieKeys(period, shared, cookieHold)
}

func (l *guardLayer) followClock() {
	tick := time.NewTicker(cookieRenewal)
	defer tick.Stop()
	for {
		select {
		case <-l.over:
			return
		case now := <-tick.C:
			if err := l.renewCookies(now); err != nil {
				l.logger.Error("guard: cookie keys", slog.Any("error", err))
			}
		}
	}
}

// followEvents hands on what the program tells. Nobody waits for anybody: what
// finds a full channel is lost.
func (l *guardLayer) followEvents() {
	for {
		event, err := l.guard.Next()
		if err != nil {
			if !errors.Is(err, guard.ErrClosed) {
				l.logger.Error("guard", slog.Any("error", err))
			}
			return
		}
		switch e := event.(type) {
		case guard.UnknownSPI:
			told := dataplane.UnknownSPI{SPI: dataplane.SPI(e.SPI), Local: e.Local, Remote: e.Remote, Encapsulation: dataplane.EncapsulationNone}
			if e.Encapsulated {
				told.Encapsulation = dataplane.EncapsulationUDP
			}
			select {
			case l.events <- told:
			default:
			}
		case guard.Sample:
			l.show(e)
		}
	}
}

// use other settings; the program checks them before it changes.
func (l *guardLayer) use(s guard.Settings) error {
	if l.off() {
		return nil
	}
	return l.guard.Update(s)
}

// verdicts by name; nil if the guard is off.
func (l *guardLayer) verdicts() map[string]uint64 {
	return l.count(func(guard.Verdict) bool { return true })
}

// drops are those of the verdicts by which packets got lost; a keepalive has
// done its work.
func (l *guardLayer) drops() map[string]uint64 {
	return l.count(func(v guard.Verdict) bool { return v.Drops() && v != guard.Keepalive })
}

func (l *guardLayer) count(which func(guard.Verdict) bool) map[string]uint64 {
	if l.off() {
		return nil
	}
	counts, err := l.guard.Verdicts()
	if err != nil {
		return nil // closed: the gateway is ending
	}
	out := make(map[string]uint64, len(counts))
	for v, n := range counts {
		if which(guard.Verdict(v)) {
			out[guard.Verdict(v).String()] = n
		}
	}
	return out
}

func (l *guardLayer) status(shield bool) local.Guard {
	switch {
	case l == nil:
		return local.Guard{Mode: "off"}
	case l.off():
		return local.Guard{Mode: "off", Reason: l.why}
	}
	mode, _ := l.guard.Mode()
	return local.Guard{Mode: mode.String(), Reason: l.why, Pinned: l.pinned, Shield: shield}
}

// close ends what runs beside and lets go of the program, which stays in force
// where it is pinned.
func (l *guardLayer) close() error {
	if l.off() {
		return nil
	}
	close(l.over)
	err := l.guard.Close()
	l.running.Wait()
	l.unwatchAll()
	return err
}
