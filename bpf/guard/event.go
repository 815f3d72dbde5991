package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// Event is UnknownSPI or Sample.
type Event interface{ event() }

// UnknownSPI: ESP came whose SPI isn't in the table, and was dropped. Ports are
// zero unless it was Encapsulated in UDP.
type UnknownSPI struct {
	SPI           uint32
	Local, Remote netip.AddrPort
	Encapsulated  bool
}

// Sample of a dropped packet. What the program didn't find in it is zero.
type Sample struct {
	// Time since the start of the machine (CLOCK_MONOTONIC).
	Time          time.Duration
	Verdict       Verdict
	Local, Remote netip.AddrPort
	// Length of the frame in octets, of which Data are the first, at most 96.
	Length int
	Data   []byte
}

func (UnknownSPI) event() {}
func (Sample) event()     {}

// Next blocks until there is an event; one goroutine at a time. Events that
// nobody reads in time are lost. Errors: ErrClosed.
func (g *Guard) Next() (Event, error) {
	for {
		record, err := g.events.Read()
		if errors.Is(err, ringbuf.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return nil, ErrClosed
		}
		if err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
		if e, ok := decode(record.RawSample); ok {
			return e, nil
		}
	}
}

// The order of enum event_kind in maps.h.
const (
	eventUnknownSPI = 1
	eventSample     = 2
)

func decode(raw []byte) (Event, bool) {
	var e programEvent
	if binary.Read(bytes.NewReader(raw), binary.NativeEndian, &e) != nil {
		return nil, false
	}
	local := netip.AddrPortFrom(addrOf(e.Local), be16(e.LocalPort))
	remote := netip.AddrPortFrom(addrOf(e.Remote), be16(e.RemotePort))
	data := raw[len(raw)-len(e.Data)*4:]
	switch e.Kind {
	case eventUnknownSPI:
		spi := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, e.Spi))
		return UnknownSPI{SPI: spi, Local: local, Remote: remote, Encapsulated: e.Encapsulated != 0}, true
	case eventSample:
		return Sample{
			Time: time.Duration(e.Time), Verdict: Verdict(e.Verdict), Local: local, Remote: remote,
			Length: int(e.Length), Data: bytes.Clone(data[:min(int(e.Captured), len(data))]),
		}, true
	}
	return nil, false
}
