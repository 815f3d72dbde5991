package gate

import (
	"net/netip"
	"sync"
)

// halfOpen counts half-open IKE SAs. The table has an entry for each prefix
// with at least one, so it is bounded by their number, and that by
// Config.MaxHalfOpen.
type halfOpen struct {
	mu     sync.Mutex
	total  int
	prefix map[netip.Prefix]int
}

// prefixOf groups sources as networks hand them out: /24 and /64.
func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (h *halfOpen) count(p netip.Prefix) (total, prefix int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total, h.prefix[p]
}

func (h *halfOpen) open(p netip.Prefix, cfg *Config) Reason {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.total >= cfg.MaxHalfOpen {
		return ReasonHalfOpenFull
	}
	if h.prefix[p] >= cfg.MaxHalfOpenPrefix {
		return ReasonPrefixFull
	}
	h.total++
	h.prefix[p]++
	return ReasonNone
}

func (h *halfOpen) close(p netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.prefix[p]
	if !ok {
		return
	}
	h.total--
	if n == 1 {
		delete(h.prefix, p)
		return
	}
	h.prefix[p] = n - 1
}
