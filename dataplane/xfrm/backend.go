package xfrm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

const (
	minSPI dataplane.SPI = 256
	// restTime is how long an SPI that was installed isn't given out again.
	restTime = 2 * time.Minute
)

// Backend is a dataplane.Backend on the kernel's XFRM. All methods may be called
// from any goroutine; one mutex orders them, and the kernel's events.
type Backend struct {
	config    Config
	abilities Abilities
	features  dataplane.Features
	events    chan<- dataplane.Event
	epoch     time.Time
	locals    encap.Pairs
	transport *transport
	conn      *conn
	// obituaries hears, while somebody wants to know, what became of SAs that
	// were removed.
	obituaries *conn
	watcher    *watcher
	stats      *os.File // /proc/net/xfrm_stat of our namespace
	inside     *insideStats
	offload    int // index of the interface, 0 for none
	offloads   map[dataplane.Encapsulation]bool
	lost       atomic.Uint64

	mu sync.Mutex
	model
	reserved map[dataplane.SPI]struct{}
	resting  []rest // oldest first
	rests    map[dataplane.SPI]struct{}
	shared   []policyKey
	before   thresholds
	base     statistics // counts of others, from before
	seen     dropCounts // sums over SAs
	counts   Offloads
	// refusedBefore: the log knows.
	refusedBefore bool
	exported      bool
	spare         spare
	sides         [2]knownSides
	closed        bool
}

type rest struct {
	spi   dataplane.SPI
	until time.Time
}

var _ dataplane.Backend = (*Backend)(nil)

// New takes away what an earlier run left behind in the kernel, binds the sockets
// and installs the shared policies. Events that find the channel full are lost.
// Errors: ErrConfig, ErrKernel, encap.ErrAddress, and those of the system.
func New(config Config, events chan<- dataplane.Event) (_ *Backend, err error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	b := &Backend{
		config: config, events: events, epoch: config.Now(), model: newModel(),
		reserved: make(map[dataplane.SPI]struct{}), rests: make(map[dataplane.SPI]struct{}),
		offloads: make(map[dataplane.Encapsulation]bool),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.release())
		}
	}()
	if b.conn, err = dial(); err != nil {
		return nil, err
	}
	if b.obituaries, err = dial(); err != nil {
		return nil, err
	}
	if b.abilities = probe(b.conn, config.IfID); b.abilities.ESP != nil {
		return nil, b.abilities.ESP
	}
	b.features = dataplane.Features{
		Name: "xfrm", Algorithms: b.abilities.Algorithms, ESN: true, RawESP: true, MaxChildren: config.MaxChildren,
		LimitsEachWay: true, MoveSkips: true, PathLocalOnly: true, LooseHints: true, SilentUnknownSPI: true,
		CountedAs: countedAs,
	}
	if b.inside, err = openInside(config.Inside); err != nil {
		return nil, err
	}
	if err := b.openOffload(); err != nil {
		return nil, err
	}
	left, err := b.sweep()
	if err != nil {
		return nil, fmt.Errorf("take away what an earlier run left: %w", err)
	}
	if err := b.prepare(left > 0); err != nil {
		return nil, err
	}
	if b.stats, err = os.Open("/proc/thread-self/net/xfrm_stat"); err != nil {
		return nil, fmt.Errorf("%w: drop counters: %w", ErrKernel, err)
	}
	if b.base, err = b.statistics(); err != nil {
		return nil, err
	}
	if b.watcher, err = watch(b); err != nil {
		return nil, err
	}
	gro := false
	if b.locals, gro, err = listen(config.Locals, config.Outside); err != nil {
		return nil, err
	}
	if b.transport, err = newTransport(b.locals, b.isInside); err != nil {
		return nil, err
	}
	b.abilities.GRO = gro
	b.tellLacks()
	config.Logger.Info("XFRM backend", slog.Any("abilities", b.abilities), slog.Int("left_by_earlier_run", left))
	return b, nil
}

// prepare sets the thresholds and the shared policies. After a crash the
// thresholds from before are not known: then they are taken to be the kernel's.
func (b *Backend) prepare(crashed bool) error {
	wanted := thresholds{0, 32, 0, 128}
	b.before = thresholds{32, 32, 128, 128}
	var q batch
	q.getSPDInfo()
	var found bool
	errs := b.conn.do(&q, func(_ int, m message) {
		if t, ok := parseThresholds(m.body); ok && (t != wanted || !crashed) {
			b.before, found = t, true
		}
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("thresholds of policies: %w", err)
	}
	if !found || b.before != wanted {
		q.newSPDInfo(wanted)
	}
	shared, err := b.sharedSelectors()
	if err != nil {
		return err
	}
	for _, s := range shared {
		for _, d := range []direction{dirIn, dirFwd} {
			p := &policy{policyKey: policyKey{d, s}, ifID: b.config.IfID, priority: priorityShared}
			b.shared = append(b.shared, p.policyKey)
			q.putPolicy(msgNewPolicy, p)
		}
	}
	if err := errors.Join(b.conn.do(&q, nil)...); err != nil {
		return fmt.Errorf("shared policies: %w", err)
	}
	return nil
}

// sharedSelectors are of the packets that all devices may send.
func (b *Backend) sharedSelectors() ([]selector, error) {
	if b.config.binding() == bindPolicies {
		return nil, nil
	}
	local, err := localSides(b.config.Common)
	if err != nil {
		return nil, err
	}
	return cross(poolSides(b.config.Pools), local)
}

// Locals are those of Config, with the ports that were drawn where it has 0. A
// path in UDP starts from one of the Encap addresses.
func (b *Backend) Locals() []Local {
	bound := make([]Local, len(b.locals))
	for i, at := range b.locals {
		bound[i] = Local{IKE: at.IKE.Local(), Encap: at.Encap.Local()}
	}
	return bound
}

// Abilities of this kernel, as New found them.
func (b *Backend) Abilities() Abilities { return b.abilities }

func (b *Backend) Features() dataplane.Features { return b.features }

func (b *Backend) Transport() dataplane.IKETransport { return b.transport }

// now is the time since the backend was made; never 0.
func (b *Backend) now() int64 { return int64(b.config.Now().Sub(b.epoch)) + 1 }

// over: nothing may be changed any more.
func (b *Backend) over() bool { return b.closed || b.exported }

// Reserve draws a random SPI. What other programs use isn't looked at: with two
// of them in 2^32 the kernel refuses the Install.
func (b *Backend) Reserve(netip.Addr) (dataplane.SPI, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over() {
		return 0, dataplane.ErrClosed
	}
	if len(b.reserved)+len(b.children) >= b.config.MaxChildren {
		return 0, dataplane.ErrFull
	}
	b.wake()
	for {
		var random [4]byte
		rand.Read(random[:])
		spi := dataplane.SPI(binary.BigEndian.Uint32(random[:]))
		if spi >= minSPI && b.isFree(spi) {
			b.reserved[spi] = struct{}{}
			return spi, nil
		}
	}
}

func (b *Backend) isFree(spi dataplane.SPI) bool {
	_, reserved := b.reserved[spi]
	_, resting := b.rests[spi]
	return !reserved && !resting && b.children[spi] == nil
}

// lay lets an SPI rest. Of more than MaxChildren the oldest are given up.
func (b *Backend) lay(spi dataplane.SPI) {
	if len(b.resting) >= b.config.MaxChildren {
		delete(b.rests, b.resting[0].spi)
		b.resting = slices.Delete(b.resting, 0, 1)
	}
	b.resting = append(b.resting, rest{spi, b.config.Now().Add(restTime)})
	b.rests[spi] = struct{}{}
}

// wake gives back the SPIs that have rested.
func (b *Backend) wake() {
	n := 0
	for now := b.config.Now(); n < len(b.resting) && !now.Before(b.resting[n].until); n++ {
		delete(b.rests, b.resting[n].spi)
	}
	b.resting = slices.Delete(b.resting, 0, n)
}

// inPools: nobody outside can have that address.
func (b *Backend) inPools(a netip.Addr) bool {
	return slices.ContainsFunc(b.config.Pools, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (b *Backend) isInside(a netip.Addr) bool {
	if b.inPools(a) {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.virtual[a] > 0
}

// checkPath refuses a path of a child with the virtual addresses own that isn't
// from here, or leads to where nobody outside can be: the kernel would seal its
// own packets again and again. Errors: dataplane.ErrInvalid, wrapped.
func (b *Backend) checkPath(path dataplane.Path, own []netip.Addr) error {
	if err := startsHere(b.locals, path); err != nil {
		return err
	}
	remote := path.Remote.Addr()
	if b.inPools(remote) || b.virtual[remote] > 0 || slices.Contains(own, remote) {
		return fmt.Errorf("%w: path to %v, which is inside", dataplane.ErrInvalid, path.Remote)
	}
	return nil
}

// tell is for events; it never blocks.
func (b *Backend) tell(e dataplane.Event) bool {
	select {
	case b.events <- e:
		return true
	default:
		b.lost.Add(1)
		return false
	}
}

// Close removes every SA and policy of ours from the kernel, erases keys and
// closes the sockets. The inside interface stays.
func (b *Backend) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	// Both take mu, which is therefore free.
	b.watcher.end()
	b.transport.end()

	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := b.sweep()
	var q batch
	if b.before != (thresholds{0, 32, 0, 128}) {
		q.newSPDInfo(b.before)
		err = errors.Join(err, errors.Join(b.conn.do(&q, nil)...))
	}
	for _, c := range b.children {
		c.EraseKeys()
	}
	b.model = newModel()
	return errors.Join(err, b.release())
}

// release closes what is open; it touches nothing in the kernel.
func (b *Backend) release() error {
	var errs []error
	if b.watcher != nil {
		b.watcher.end()
		errs = append(errs, b.watcher.close())
	}
	if b.transport != nil {
		b.transport.end()
		errs = append(errs, b.transport.close())
	}
	errs = append(errs, b.locals.Close())
	if b.stats != nil {
		errs = append(errs, b.stats.Close())
	}
	if b.inside != nil {
		b.inside.close()
	}
	for _, c := range []*conn{b.conn, b.obituaries} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}
