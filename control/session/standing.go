package session

import (
	"encoding/binary"
	"time"
	"unique"

	"github.com/roamgate/roamgate/control/admit"
)

// standing of a session, and since when: an admit.Standing whose parts that many
// have in common are kept once for all.
type standing struct {
	device        string
	serial        string // of the device's certificate, empty without a path; a piece of the same octets
	common        unique.Handle[commonStanding]
	until         time.Time
	authenticated time.Time
	presented     *presented // nil: by a full handshake
}

// commonStanding is comparable. What there are several of stands in a string,
// each behind its length as a varint.
type commonStanding struct {
	epoch    uint64
	instance string
	units    string
	anchor   [32]byte
	path     bool
	issuer   [16]byte // of the device's certificate
	above    string   // for each other certificate of the path: issuer, serial number
}

func newStanding(s admit.Standing, authenticated time.Time, p *presented) standing {
	st := standing{authenticated: authenticated, presented: p}
	st.set(s)
	return st
}

// known: it is that of somebody.
func (st *standing) known() bool { return st.common != unique.Handle[commonStanding]{} }

func (st *standing) set(s admit.Standing) {
	c := commonStanding{epoch: s.Epoch, instance: string(s.Instance), anchor: s.Anchor, path: len(s.Path) > 0}
	var units, above []byte
	for _, u := range s.Units {
		units = appendPart(units, u)
	}
	var serial string
	for i, l := range s.Path {
		if i == 0 {
			c.issuer, serial = l.Issuer, string(l.Serial)
			continue
		}
		above = appendPart(appendPart(above, string(l.Issuer[:])), string(l.Serial))
	}
	c.units, c.above = string(units), string(above)
	both := s.Device + serial
	st.device, st.serial = both[:len(s.Device)], both[len(s.Device):]
	st.until, st.common = s.Until, unique.Make(c)
}

// full is what set was given.
func (st *standing) full() admit.Standing {
	c := st.common.Value()
	s := admit.Standing{
		Device: st.device, Epoch: c.epoch, Instance: []byte(c.instance), Units: parts(c.units), Until: st.until, Anchor: c.anchor,
	}
	if c.path {
		s.Path = []admit.Link{{Issuer: c.issuer, Serial: []byte(st.serial)}}
	}
	above := parts(c.above)
	for i := 0; i < len(above); i += 2 {
		s.Path = append(s.Path, admit.Link{Issuer: [16]byte([]byte(above[i])), Serial: []byte(above[i+1])})
	}
	return s
}

// serials of the path, but for the device's own.
func (c *commonStanding) serials() (list []string) {
	for i, part := range parts(c.above) {
		if i%2 == 1 {
			list = append(list, part)
		}
	}
	return list
}

func appendPart(dst []byte, part string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(part))), part...)
}

// parts are the inverse of appendPart.
func parts(s string) (list []string) {
	for len(s) > 0 {
		length, n := binary.Uvarint([]byte(s))
		end := n + int(length)
		list = append(list, s[n:end])
		s = s[end:]
	}
	return list
}
