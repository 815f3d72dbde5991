package lease

// acquireAssigned answers a request for an address that is the device's alone,
// wherever it connects. waits is a session that has to end before; then nothing
// has changed, and the request is to be made again.
func (t *table) acquireAssigned(req Request, now int64, readOnly bool) (g Grant, waits SessionID, err error) {
	d, l := t.devices[req.Device], t.leases[keyOf(req.Want)]
	if req.Additional && (d == nil || d.session != req.Session) {
		return Grant{}, 0, ErrNotCurrent
	}
	if sp := &t.spaces[req.Family]; !sp.usable(req.Want) && !sp.neighbourly(req.Want) {
		return Grant{}, 0, ErrOutside
	}
	var had *lease
	if d != nil {
		had = d.leases[req.Family]
	}
	if had == nil || had != l {
		switch {
		case l != nil && l.live():
			return Grant{}, l.device.session, nil
		case had != nil && d.session != 0 && d.session != req.Session:
			// The address that it leaves would be free while it is in use.
			return Grant{}, d.session, nil
		case readOnly:
			return Grant{}, 0, ErrStore
		}
		d = t.assign(keyOf(req.Want), req.Device, now)
		g.New = true
	}
	g.Address = req.Want
	g.Displaced = t.begun(d, req.Session, now)
	return g, 0, nil
}
