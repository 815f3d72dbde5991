package slab

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

type thing struct {
	name string
	id   [12]int
}

// Whatever is taken and given back in whatever order: what one has is its own, zero
// when it comes, and chunks go with what was in them.
func TestThings(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s Of[thing]
	type held struct {
		*thing
		of *Chunk[thing]
	}
	var all []held
	put := func(i int) {
		h := all[i]
		all[i] = all[len(all)-1]
		all = all[:len(all)-1]
		h.of.Put(h.thing)
	}
	for id := 1; id <= 20_000; id++ {
		if len(all) > 0 && r.IntN(5) < 2 {
			put(r.IntN(len(all)))
			continue
		}
		x, of := s.Get()
		if *x != (thing{}) {
			t.Fatalf("%+v is handed out", *x)
		}
		*x = thing{name: "x", id: [12]int{id}}
		all = append(all, held{x, of})
	}
	seen := make(map[int]bool)
	for _, h := range all {
		if h.id[0] == 0 || seen[h.id[0]] {
			t.Fatalf("%d is there twice, or none", h.id[0])
		}
		seen[h.id[0]] = true
	}
	for len(all) > 0 {
		put(r.IntN(len(all)))
	}
	if len(s.room) != 1 || s.room[0].used != 0 {
		t.Errorf("%d chunks when there is nothing", len(s.room))
	}
}

// The same of octets of any length; those that are given back are erased.
func TestOctets(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var o Octets
	type held struct {
		Piece
		want []byte
	}
	var all []held
	erase := func(i int) {
		h := all[i]
		all[i] = all[len(all)-1]
		all = all[:len(all)-1]
		b := h.Octets()
		if !bytes.Equal(b, h.want) {
			t.Fatalf("%x, want %x", b, h.want)
		}
		h.Erase()
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Fatalf("%x after it was erased", b)
		}
		if h.Piece.Octets() != nil {
			t.Fatal("there is something left")
		}
	}
	for range 20_000 {
		if len(all) > 0 && r.IntN(5) < 2 {
			erase(r.IntN(len(all)))
			continue
		}
		b := make([]byte, r.IntN(longest+100))
		for i := range b {
			b[i] = byte(r.Uint32()) | 1
		}
		all = append(all, held{o.Put(b), b})
	}
	for len(all) > 0 {
		erase(r.IntN(len(all)))
	}
	for i := range o.sizes {
		if room := o.sizes[i].room; len(room) > 1 || len(room) == 1 && room[0].used != 0 {
			t.Errorf("%d chunks of length %d when there is nothing", len(room), i*step)
		}
	}
}
