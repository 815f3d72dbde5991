package xfrm

// getReplay appends XFRM_MSG_GETAE, which asks for sequence numbers, window and
// use of an SA, but not for its keys.
func (b *batch) getReplay(s *state) {
	b.begin(msgGetAE, 0)
	id := b.room(lenAEID)
	putSAID(id, s.id)
	putAddr(id[24:], s.src)
	native.PutUint32(id[40:], aeReplay|aeLifetime)
	native.PutUint32(id[44:], s.reqid)
	b.end()
}

// parseAE reads the answer, which begins with struct xfrm_aevent_id.
func parseAE(body []byte) (r replay, l lifetime, ok bool) {
	if len(body) < lenAEID {
		return r, l, false
	}
	found := 0
	for kind, value := range attributes(body[lenAEID:]) {
		switch {
		case kind == attrReplayESN && len(value) >= lenReplayESN:
			r = parseReplay(value)
			found++
		case kind == attrLifetime && len(value) >= 32:
			l = parseLifetime(value)
			found++
		}
	}
	return r, l, found == 2
}

// parseLifetime reads struct xfrm_lifetime_cur.
func parseLifetime(from []byte) lifetime {
	return lifetime{bytes: native.Uint64(from), packets: native.Uint64(from[8:]), used: native.Uint64(from[24:])}
}
