package ike

import (
	"strings"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Trait is what the clients of one maker need that the RFC doesn't say. This
// table is the only place where makers are told apart.
type Trait struct {
	// Name for people.
	Name string
	// PeerRekeysChildren: rekeying of Child SAs is left to the peer.
	PeerRekeysChildren bool

	vendor []string // prefixes of its vendor IDs
}

// traits, first match first.
var traits = []Trait{
	// Windows 10 and 11: behind a NAT a rekeying of a Child SA that the gateway
	// begins fails. The client itself rekeys after some 200 MB.
	{
		Name: "windows", PeerRekeysChildren: true,
		vendor: []string{"\x1e\x2b\x51\x69\x05\x99\x1c\x7d\x7c\x96\xfc\xbf\xb5\x87\xe4\x61"}, // MD5("MS NT5 ISAKMPOAKLEY")
	},
	// strongSwan, Linux and Android: nothing special.
	{Name: "strongswan", vendor: []string{"\x88\x2f\xe5\x6d\x6f\xd2\x0d\xbc\x22\x51\x61\x3b\x2e\xbe\x5b\xeb"}}, // MD5("strongSwan")
}

// traitOf finds the maker by the vendor IDs of IKE_SA_INIT. Apple's and
// Android's own clients send none and need nothing.
func traitOf(payloads []ikewire.Payload) *Trait {
	for i := range traits {
		for _, p := range payloads {
			v, ok := p.(*ikewire.Vendor)
			if !ok {
				continue
			}
			for _, prefix := range traits[i].vendor {
				if strings.HasPrefix(string(v.Data), prefix) {
					return &traits[i]
				}
			}
		}
	}
	return nil
}

func (m *Machine) trait() Trait {
	if m.peer.trait == nil {
		return Trait{Name: "standard"}
	}
	return *m.peer.trait
}
