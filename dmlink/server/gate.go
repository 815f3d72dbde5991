package server

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// gate bounds how many requests are read and worked on at once. Each may take
// some megabytes, for its octets, its document and its message; a device says
// one thing after the other.
type gate struct {
	mu sync.Mutex
	// devices that have requests here, with how many.
	devices map[string]int
	// strangers' requests, and how many there may be.
	strangers, most int
}

// perDevice: a device that asks again while its first try is worked on, a few
// times.
const perDevice = 4

// maxStranger is how long a message may be, in octets, of who has proven nothing
// yet: package 1 without more.
const maxStranger = 64 << 10

func newGate(most int) *gate { return &gate{devices: map[string]int{}, most: most} }

// enter for a device, "" for a stranger. Who gets in leaves.
func (g *gate) enter(device string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if device == "" {
		if g.strangers >= g.most {
			return false
		}
		g.strangers++
		return true
	}
	if g.devices[device] >= perDevice {
		return false
	}
	g.devices[device]++
	return true
}

func (g *gate) leave(device string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if device == "" {
		g.strangers--
		return
	}
	if g.devices[device]--; g.devices[device] == 0 {
		delete(g.devices, device)
	}
}

// pace bounds how often a device begins sessions. It forgets each minute, so it
// has as many entries as devices come in one.
type pace struct {
	mu     sync.Mutex
	minute int64
	begun  map[string]int
}

// begin reports whether the device may.
func (p *pace) begin(device string, now time.Time, most int) bool {
	minute := now.Unix() / 60
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == nil || p.minute != minute {
		p.minute, p.begun = minute, map[string]int{}
	}
	if p.begun[device] >= most {
		return false
	}
	p.begun[device]++
	return true
}

// origin of a request: its address, of IPv6 the network. A transport that
// doesn't say has one for all.
func origin(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
