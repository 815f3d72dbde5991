// Package slab keeps what stays for hours apart from what is garbage at once. Go's
// allocator puts what has the same size next to each other: a session is made in the
// middle of handshakes, and when their garbage is gone its parts hold pages that are
// empty otherwise. Here things of one type, or octets of about one length, lie in
// chunks of their own, dense; a chunk in which there is nothing any more goes.
//
// What is put back is erased and will be handed out again, so its owner makes sure
// that nobody still points to it. Nothing here is safe for several goroutines.
//
// What lives here: places. What doesn't: what they are for (packages session and
// ike), and the keys of the packet loop, which have references of four octets
// (package userspace).
package slab

import "reflect"

// chunkLen in octets is a size of Go's allocator that has pages of its own; with
// pointers in it there are 8 more.
const chunkLen = 16 << 10

// Of things of type T. Its zero value is ready.
type Of[T any] struct {
	room []*Chunk[T] // those with free places
}

// Chunk of things, to one of which its owner gives it back.
type Chunk[T any] struct {
	slab  *Of[T]
	fresh []T  // never handed out
	free  []*T // put back
	used  int
	at    int // in slab.room, -1: it is full
}

// Get returns a zero T and the chunk to which it is to be put back.
func (s *Of[T]) Get() (*T, *Chunk[T]) {
	if len(s.room) == 0 {
		size := max(1, int(reflect.TypeFor[T]().Size()))
		s.room = append(s.room, &Chunk[T]{slab: s, fresh: make([]T, max(1, (chunkLen-8)/size))})
	}
	c := s.room[len(s.room)-1]
	c.used++
	var t *T
	if last := len(c.free) - 1; last >= 0 {
		t, c.free = c.free[last], c.free[:last]
	} else {
		t, c.fresh = &c.fresh[0], c.fresh[1:]
	}
	if len(c.free) == 0 && len(c.fresh) == 0 {
		s.room = remove(s.room, c)
	}
	return t, c
}

// Put gives back and erases what came from this chunk.
func (c *Chunk[T]) Put(t *T) {
	var zero T
	*t = zero
	c.free = append(c.free, t)
	c.used--
	switch s := c.slab; {
	case c.at < 0:
		c.at = len(s.room)
		s.room = append(s.room, c)
	case c.used == 0 && len(s.room) > 1: // one stays for who comes next
		s.room = remove(s.room, c)
	}
}

// remove a chunk from a list; the last one takes its place.
func remove[T any](list []*Chunk[T], c *Chunk[T]) []*Chunk[T] {
	last := len(list) - 1
	list[c.at], list[last].at = list[last], c.at
	list[last], c.at = nil, -1
	return list[:last]
}
