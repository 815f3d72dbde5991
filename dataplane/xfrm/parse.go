package xfrm

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// report is what the kernel says of an SA.
type report struct {
	id       stateID
	src      netip.Addr
	reqid    uint32
	ifID     uint32
	lifetime lifetime
	replay   replay
	lastUsed uint64 // Unix seconds, 0 never
	// hardPackets is the kernel's hard limit, ^0 for none.
	hardPackets uint64
	offloaded   bool // the hardware has it
	// Packets that were dropped for their sequence number: left of the window,
	// and seen before.
	tooOld, replayed uint32
}

// parseSA reads the body of a message that begins with struct xfrm_usersa_info.
func parseSA(body []byte) (r report, ok bool) {
	if len(body) < lenSAInfo {
		return r, false
	}
	return parseInfo(body[:lenSAInfo], body[lenSAInfo:])
}

func parseInfo(info, attrs []byte) (r report, ok bool) {
	f := native.Uint16(info[212:])
	if info[76] != unix.IPPROTO_ESP || f != unix.AF_INET && f != unix.AF_INET6 {
		return r, false
	}
	r.id = stateID{getAddr(info[56:], f), dataplane.SPI(network.Uint32(info[72:]))}
	r.src = getAddr(info[80:], f)
	r.lifetime = parseLifetime(info[160:])
	r.hardPackets = native.Uint64(info[120:])
	r.tooOld, r.replayed = native.Uint32(info[192:]), native.Uint32(info[196:])
	r.reqid = native.Uint32(info[208:])
	for kind, value := range attributes(attrs) {
		switch {
		case kind == attrIfID && len(value) >= 4:
			r.ifID = native.Uint32(value)
		case kind == attrLastUsed && len(value) >= 8:
			r.lastUsed = native.Uint64(value)
		case kind == attrReplayESN && len(value) >= lenReplayESN:
			r.replay = parseReplay(value)
		case kind == attrOffload:
			r.offloaded = true
		}
	}
	return r, true
}

func parseReplay(value []byte) (r replay) {
	r.out = uint64(native.Uint32(value[12:]))<<32 | uint64(native.Uint32(value[4:]))
	r.in = uint64(native.Uint32(value[16:]))<<32 | uint64(native.Uint32(value[8:]))
	for i := range min(windowWords, int(native.Uint32(value)), (len(value)-lenReplayESN)/4) {
		r.bitmap[i] = native.Uint32(value[lenReplayESN+4*i:])
	}
	return r
}

// parseDeleted reads the body of a XFRM_MSG_DELSA that tells of an SA that is no
// more: its last state is in an attribute.
func parseDeleted(body []byte) (r report, ok bool) {
	if len(body) < lenSAID {
		return r, false
	}
	attrs := body[lenSAID:]
	for kind, value := range attributes(attrs) {
		if kind == attrSA && len(value) >= lenSAInfo {
			return parseInfo(value[:lenSAInfo], attrs)
		}
	}
	return r, false
}

// parseExpire reads struct xfrm_user_expire and what follows it.
func parseExpire(body []byte) (r report, hard, ok bool) {
	if len(body) < lenExpire {
		return r, false, false
	}
	r, ok = parseInfo(body[:lenSAInfo], body[lenExpire:])
	return r, body[lenSAInfo] != 0, ok
}

// mapping is news of the outer source of an inbound SA.
type mapping struct {
	id     stateID
	remote netip.AddrPort
}

// parseMapping reads struct xfrm_user_mapping.
func parseMapping(body []byte) (m mapping, ok bool) {
	if len(body) < lenMapping {
		return m, false
	}
	f := native.Uint16(body[20:])
	if f != unix.AF_INET && f != unix.AF_INET6 {
		return m, false
	}
	m.id = stateID{getAddr(body, f), dataplane.SPI(network.Uint32(body[16:]))}
	m.remote = netip.AddrPortFrom(getAddr(body[44:], f), network.Uint16(body[62:]))
	return m, true
}

// parsePolicy reads struct xfrm_userpolicy_info: what tells the policy from
// others, and the interface it is for.
func parsePolicy(body []byte) (key policyKey, ifID uint32, ok bool) {
	if len(body) < lenPolicyInfo {
		return key, 0, false
	}
	f := native.Uint16(body[40:])
	if f != unix.AF_INET && f != unix.AF_INET6 {
		return key, 0, false
	}
	dst, src := getAddr(body, f), getAddr(body[16:], f)
	if int(body[42]) > dst.BitLen() || int(body[43]) > src.BitLen() {
		return key, 0, false
	}
	key = policyKey{dir: direction(body[160]), sel: selector{
		src: netip.PrefixFrom(src, int(body[43])), dst: netip.PrefixFrom(dst, int(body[42])), proto: body[44],
		dport: network.Uint16(body[32:]), dmask: network.Uint16(body[34:]),
		sport: network.Uint16(body[36:]), smask: network.Uint16(body[38:]),
	}}
	for kind, value := range attributes(body[lenPolicyInfo:]) {
		if kind == attrIfID && len(value) >= 4 {
			ifID = native.Uint32(value)
		}
	}
	return key, ifID, true
}

// parseThresholds reads the answer to XFRM_MSG_GETSPDINFO.
func parseThresholds(body []byte) (t thresholds, ok bool) {
	if len(body) < 4 {
		return t, false
	}
	seen := 0
	for kind, value := range attributes(body[4:]) {
		switch {
		case len(value) < 2:
		case kind == attrThreshold4:
			t.local4, t.remote4 = value[0], value[1]
			seen++
		case kind == attrThreshold6:
			t.local6, t.remote6 = value[0], value[1]
			seen++
		}
	}
	return t, seen == 2
}
