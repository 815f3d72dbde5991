package ike

import (
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Redirect to another gateway (RFC 5685): at IKE_SA_INIT, where every peer is
// sent on (a gateway that drains); at IKE_AUTH, by who the peer is; and of an
// IKE SA that is up. Only peers that announced support are redirected.

// gatewayIdentity is the data of a REDIRECT notification (section 7.2): type
// 1 IPv4, 2 IPv6 or 3 FQDN, length, identity, and at IKE_SA_INIT the peer's
// nonce, which shows that the answer is to its request.
func gatewayIdentity(to string, nonce []byte) []byte {
	kind, id := byte(3), []byte(to)
	if a, err := netip.ParseAddr(to); err == nil {
		id = a.AsSlice()
		if kind = 2; a.Is4() {
			kind = 1
		}
	}
	return append(append([]byte{kind, byte(len(id))}, id...), nonce...)
}

// redirectedTo reads a REDIRECT notification: the gateway and what follows it.
func redirectedTo(data []byte) (to string, rest []byte, ok bool) {
	if len(data) < 2 || len(data) < 2+int(data[1]) {
		return "", nil, false
	}
	id, rest := data[2:2+data[1]], data[2+data[1]:]
	switch data[0] {
	case 1, 2:
		a, valid := netip.AddrFromSlice(id)
		return a.String(), rest, valid
	case 3:
		return string(id), rest, len(id) > 0
	}
	return "", nil, false
}

// redirect tells an established peer to go elsewhere. It acknowledges and
// deletes the IKE SA when it is there.
func (m *Machine) redirect(now time.Time, in Redirect) {
	if m.state != stateEstablished || !m.peer.redirect || len(in.To) > 255 {
		return
	}
	m.begin(now, func(now time.Time) {
		n := notify(ikewire.NotifyRedirect, gatewayIdentity(in.To, nil))
		m.sendRequest(now, ikewire.Informational, []ikewire.Payload{n}, func(time.Time, Message, []ikewire.Payload) {})
	})
}
