package dhcp

import (
	"net/netip"
	"slices"
)

// Answer makes the DHCPACK for a DHCPINFORM that came from the address from,
// which the caller knows to be the sender's. request and answer are UDP
// payloads. Without an answer it returns nil and the reason.
//
// The options stand in the order in which they were asked for (RFC 2132 section
// 9.8). Routes get the room that the others leave, in the order of the
// configuration. A client that asks for both 121 and 249, and has no room for
// both, gets the one that it named first, since they say the same. leftOut
// counts the routes and other options that had no room.
//
// 0.0.0.0/0 is told as 0.0.0.0/1 and 128.0.0.0/1: they win over the device's
// own default route, whatever its metric, and leave it in place for the packets
// of the tunnel itself.
func Answer(cfg Config, request []byte, from netip.Addr) (answer []byte, leftOut int, reason Reason) {
	in, reason := parseInform(request, from.Unmap())
	if reason != ReasonNone {
		return nil, 0, reason
	}
	// The client identifier is echoed though it isn't asked for (RFC 6842
	// section 3).
	if !slices.Contains(in.asked, optClientID) {
		in.asked = append(in.asked, optClientID)
	}
	b := in.appendHeader(make([]byte, 0, in.limit))
	b = appendOption(b, optMessageType, []byte{typeACK})
	b = appendOption(b, optServerID, appendAddrs(nil, []netip.Addr{cfg.Server}))

	values, leftOut := in.choose(&cfg, in.limit-len(b)-1) // 1: End
	for _, code := range in.asked {
		if len(values[code]) > 0 {
			b = appendOption(b, code, values[code])
		}
	}
	b = append(b, optEnd)
	for len(b) < minMessage {
		b = append(b, optPad)
	}
	return b, leftOut, ReasonNone
}

// choose fills room octets with values by option code.
func (in *inform) choose(cfg *Config, room int) (values map[byte][]byte, leftOut int) {
	values = map[byte][]byte{}
	put := func(code byte, value []byte) {
		switch n := optionLen(len(value)); {
		case len(value) == 0:
		case n > room:
			leftOut++
		default:
			values[code] = value
			room -= n
		}
	}
	var routeCodes []byte
	for _, code := range in.asked {
		switch code {
		case optDNS:
			put(code, appendAddrs(nil, cfg.DNS))
		case optWINS:
			put(code, appendAddrs(nil, cfg.WINS))
		case optDomain:
			put(code, []byte(cfg.Domain))
		case optClientID:
			put(code, in.clientID)
		case optRoutes, optRoutesMS:
			routeCodes = append(routeCodes, code)
		}
	}
	if len(routeCodes) == 0 {
		return values, leftOut
	}
	list := routes(cfg.Networks)
	if value, n := fitting(list, room/len(routeCodes)); n == len(list) {
		for _, code := range routeCodes {
			values[code] = value
		}
		return values, leftOut
	}
	value, n := fitting(list, room)
	values[routeCodes[0]] = value
	return values, leftOut + len(list) - n
}
