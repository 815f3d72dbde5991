package slab

const (
	// step is by how much one length that is kept is longer than the one before, and
	// longest the longest, in octets; what is longer is on its own.
	step    = 16
	longest = 1024
)

// Octets keeps strings of octets, without pointers, by their lengths. Its zero value
// is ready.
type Octets struct {
	sizes [longest/step + 1]size
}

// size is the pieces of one length.
type size struct {
	len  int
	room []*pieces // chunks with free places
}

// pieces is a chunk of them.
type pieces struct {
	size  *size
	all   []byte
	fresh int      // the first that was never handed out
	free  []uint16 // put back
	used  int
	at    int // in size.room, -1: it is full
}

// Piece of octets. The zero Piece has none.
type Piece struct {
	of *pieces // of one that is longer: it alone, without a size
	n  uint32
	at uint16
}

// Put copies octets.
func (o *Octets) Put(b []byte) Piece {
	switch {
	case len(b) == 0:
		return Piece{}
	case len(b) > longest:
		return Piece{of: &pieces{all: append([]byte(nil), b...)}, n: uint32(len(b))}
	}
	z := &o.sizes[(len(b)+step-1)/step]
	if len(z.room) == 0 {
		z.len = (len(b) + step - 1) / step * step
		z.room = append(z.room, &pieces{size: z, all: make([]byte, chunkLen)})
	}
	c := z.room[len(z.room)-1]
	c.used++
	var at uint16
	if last := len(c.free) - 1; last >= 0 {
		at, c.free = c.free[last], c.free[:last]
	} else {
		at = uint16(c.fresh)
		c.fresh++
	}
	if len(c.free) == 0 && c.fresh == len(c.all)/z.len {
		c.leave()
	}
	p := Piece{of: c, at: at, n: uint32(len(b))}
	copy(p.Octets(), b)
	return p
}

// Octets are those of the piece until it is erased.
func (p Piece) Octets() []byte {
	switch {
	case p.of == nil:
		return nil
	case p.of.size == nil:
		return p.of.all
	}
	from := int(p.at) * p.of.size.len
	return p.of.all[from : from+int(p.n) : from+int(p.n)]
}

// Erase gives the piece back, and makes it the zero Piece.
func (p *Piece) Erase() {
	clear(p.Octets())
	c, at := p.of, p.at
	*p = Piece{}
	if c == nil || c.size == nil {
		return
	}
	c.free = append(c.free, at)
	c.used--
	switch {
	case c.at < 0:
		c.at = len(c.size.room)
		c.size.room = append(c.size.room, c)
	case c.used == 0 && len(c.size.room) > 1: // one stays for who comes next
		c.leave()
	}
}

// leave the chunks with free places; the last one takes its place.
func (c *pieces) leave() {
	list := c.size.room
	last := len(list) - 1
	list[c.at], list[last].at = list[last], c.at
	list[last], c.at = nil, -1
	c.size.room = list[:last]
}
