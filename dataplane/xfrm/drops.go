package xfrm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// countedAs: of these reasons the kernel knows only the other one.
var countedAs = map[dataplane.Reason]dataplane.Reason{
	dataplane.ReasonPadding:           dataplane.ReasonIntegrity,
	dataplane.ReasonInnerSource:       dataplane.ReasonSelectorIn,
	dataplane.ReasonSelectorOut:       dataplane.ReasonNoChild,
	dataplane.ReasonSequenceExhausted: dataplane.ReasonHardLimit,
}

// reasons of /proc/net/xfrm_stat (Documentation/networking/xfrm_proc.rst). What
// is left out is counted elsewhere: XfrmInStateSeqError for each SA, and what
// finds no way out (XfrmOutNoStates among it) by the xfrm interface.
var reasons = map[string]dataplane.Reason{
	"XfrmInError":             dataplane.ReasonInsideWrite,
	"XfrmInBufferError":       dataplane.ReasonInsideWrite,
	"XfrmInHdrError":          dataplane.ReasonShort,
	"XfrmInNoStates":          dataplane.ReasonUnknownSPI,
	"XfrmInStateInvalid":      dataplane.ReasonUnknownSPI,
	"XfrmInStateDirError":     dataplane.ReasonUnknownSPI,
	"XfrmInStateProtoError":   dataplane.ReasonIntegrity,
	"XfrmInStateModeError":    dataplane.ReasonNextHeader,
	"XfrmInStateExpired":      dataplane.ReasonHardLimit,
	"XfrmInStateMismatch":     dataplane.ReasonSelectorIn,
	"XfrmInTmplMismatch":      dataplane.ReasonSelectorIn,
	"XfrmInNoPols":            dataplane.ReasonSelectorIn,
	"XfrmInPolBlock":          dataplane.ReasonSelectorIn,
	"XfrmInPolError":          dataplane.ReasonSelectorIn,
	"XfrmFwdHdrError":         dataplane.ReasonInnerMalformed,
	"XfrmOutError":            dataplane.ReasonOutsideSend,
	"XfrmOutStateProtoError":  dataplane.ReasonOutsideSend,
	"XfrmOutStateModeError":   dataplane.ReasonOutsideSend,
	"XfrmOutStateDirError":    dataplane.ReasonOutsideSend,
	"XfrmOutStateInvalid":     dataplane.ReasonOutsideSend,
	"XfrmOutStateExpired":     dataplane.ReasonHardLimit,
	"XfrmOutStateSeqError":    dataplane.ReasonSequenceExhausted,
	"XfrmOutBundleCheckError": dataplane.ReasonOutsideSend,
}

// statistics are what the kernel has counted so far.
type statistics struct {
	drops dataplane.Drops
	// sequence is XfrmInStateSeqError: replays and packets left of the window.
	sequence uint64
}

// dropCounts are what the kernel counts for each inbound SA.
type dropCounts struct{ tooOld, replayed uint32 }

// Drops are those of the network namespace since the backend was made.
func (b *Backend) Drops() dataplane.Drops {
	b.mu.Lock()
	defer b.mu.Unlock()
	var drops dataplane.Drops
	if !b.closed {
		now, err := b.statistics()
		if err != nil {
			b.config.Logger.Warn("XFRM: drop counters", slog.Any("error", err))
			now = b.base
		}
		for i := range drops {
			drops[i] = now.drops[i] - b.base.drops[i]
		}
		if now.sequence-b.base.sequence > uint64(b.seen.tooOld)+uint64(b.seen.replayed) && !b.over() {
			_, _ = b.look() // counts what SAs say of it; without an answer the next one does
		}
	}
	drops[dataplane.ReasonReplayOld] += uint64(b.seen.tooOld)
	drops[dataplane.ReasonReplay] += uint64(b.seen.replayed)
	for i := range b.transport.drops {
		drops[i] += b.transport.drops[i].Load()
	}
	drops[dataplane.ReasonEventsLost] += b.lost.Load()
	return drops
}

// countDrops adds what an inbound SA counted since it was asked last.
func (b *Backend) countDrops(c *child, r *report) {
	b.seen.tooOld += r.tooOld - c.tooOld
	b.seen.replayed += r.replayed - c.replayed
	c.dropCounts = dropCounts{r.tooOld, r.replayed}
}

func (b *Backend) statistics() (s statistics, err error) {
	text := make([]byte, 8192)
	n, err := b.stats.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return s, fmt.Errorf("xfrm_stat: %w", err)
	}
	s = parseStatistics(string(text[:n]))
	noWay, err := b.inside.noWayOut()
	s.drops[dataplane.ReasonNoChild] += noWay
	return s, err
}

func parseStatistics(text string) (s statistics) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			continue
		}
		if fields[0] == "XfrmInStateSeqError" {
			s.sequence = n
		} else if reason, ok := reasons[fields[0]]; ok {
			s.drops[reason] += n
		}
	}
	return s
}

// insideStats reads the counters of the xfrm interface.
type insideStats struct {
	handle *netlink.Handle
	index  int
}

func openInside(name string) (*insideStats, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: xfrm interface %s: %w", ErrConfig, name, err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &insideStats{h, i.Index}, nil
}

// noWayOut counts packets for which there was no policy or no SA.
func (i *insideStats) noWayOut() (uint64, error) {
	l, err := i.handle.LinkByIndex(i.index)
	if err != nil {
		return 0, fmt.Errorf("xfrm interface: %w", err)
	}
	if s := l.Attrs().Statistics; s != nil {
		return s.TxCarrierErrors, nil
	}
	return 0, nil
}

func (i *insideStats) close() { i.handle.Close() }
