package gate

import (
	"net/netip"
	"sync"
)

// halfOpen counts half-open IKE SAs. The table has an entry for each prefix
// with at least one, so it is bounded by twice their number, and that by
// Config.MaxHalfOpen.
type halfOpen struct {
	mu     sync.Mutex
	total  int
	prefix map[netip.Prefix]int
}

// prefixes group sources as networks hand them out: site is an IPv4 /24 or IPv6
// /48, network an IPv6 /64 of the site, not valid with IPv4.
type prefixes struct{ site, network netip.Prefix }

func prefixesOf(a netip.Addr) (p prefixes) {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		p.site, _ = a.Prefix(24)
		return p
	}
	p.site, _ = a.Prefix(48)
	p.network, _ = a.Prefix(64)
	return p
}

// Site of a source, an IPv4 /24 or an IPv6 /48: what is bounded as one.
func Site(source netip.Addr) netip.Prefix { return prefixesOf(source).site }

// quarter of a site's bound is that of one of its networks.
func quarter(n int) int { return (n + 3) / 4 }

// count returns 0 for what is not valid.
func (h *halfOpen) count(p prefixes) (total, site, network int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total, h.prefix[p.site], h.prefix[p.network]
}

// open counts one more, unless there are as many as may be in all, or of its site.
func (h *halfOpen) open(p prefixes, all, site int) Reason {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.total >= all {
		return ReasonHalfOpenFull
	}
	if h.prefix[p.site] >= site || h.prefix[p.network] >= quarter(site) {
		return ReasonPrefixFull
	}
	h.total++
	h.prefix[p.site]++
	if p.network.IsValid() {
		h.prefix[p.network]++
	}
	return ReasonNone
}

// close passes over a source with nothing open; one network's can't be taken
// for another's of its site.
func (h *halfOpen) close(p prefixes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.prefix[p.site] == 0 || p.network.IsValid() && h.prefix[p.network] == 0 {
		return
	}
	h.total--
	h.drop(p.site)
	if p.network.IsValid() {
		h.drop(p.network)
	}
}

func (h *halfOpen) drop(p netip.Prefix) {
	if h.prefix[p]--; h.prefix[p] == 0 {
		delete(h.prefix, p)
	}
}
