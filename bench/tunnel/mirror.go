package tunnel

import (
	"net/netip"
	"sync"

	"github.com/roamgate/roamgate/dataplane"
)

// mirror has a gateway's packet path stand at the device's end: what a gateway
// takes for the virtual addresses of its peer, by which it routes outbound
// packets and judges inbound ones, are here the hosts behind the gateway.
type mirror struct {
	backend dataplane.Backend
	hosts   []netip.Addr

	mu  sync.Mutex
	alg dataplane.Algorithm
}

func (m *mirror) Reserve(hint netip.Addr) (dataplane.SPI, error) {
	if len(m.hosts) > 0 {
		hint = m.hosts[0]
	}
	return m.backend.Reserve(hint)
}

func (m *mirror) Apply(changes []dataplane.Change) []error {
	turned := make([]dataplane.Change, len(changes))
	for i, c := range changes {
		if in, ok := c.(dataplane.Install); ok {
			in.Child.VirtualIPs = m.hosts
			m.mu.Lock()
			m.alg = in.Child.Algorithm
			m.mu.Unlock()
			c = in
		}
		turned[i] = c
	}
	return m.backend.Apply(turned)
}

// algorithm of the Child SA that was installed last.
func (m *mirror) algorithm() dataplane.Algorithm {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alg
}
