package xfrm

import (
	"errors"

	"golang.org/x/sys/unix"
)

// sweep removes every SA and policy that bears our interface's ID, and SAs only
// with a reqid of ours, and says how many there were. Nothing else is touched.
func (b *Backend) sweep() (removed int, err error) {
	var q batch
	err = b.conn.dump(msgGetPolicy, func(m message) {
		if key, ifID, ok := parsePolicy(m.body); ok && m.kind == msgNewPolicy && ifID == b.config.IfID && key.dir <= dirFwd {
			q.delPolicy(key, ifID)
		}
	})
	if err != nil {
		return 0, err
	}
	err = b.conn.dump(msgGetSA, func(m message) {
		if r, ok := parseSA(m.body); ok && m.kind == msgNewSA && r.ifID == b.config.IfID && ourReqid(r.reqid) {
			q.byID(msgDelSA, r.id)
		}
	})
	if err != nil {
		return 0, err
	}
	removed = q.len()
	for _, e := range b.conn.do(&q, nil) {
		if e != nil && !gone(e) {
			err = errors.Join(err, e)
		}
	}
	return removed, err
}

// gone: what was to be removed isn't there.
func gone(err error) bool { return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) }
