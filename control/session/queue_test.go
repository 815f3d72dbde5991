package session

import (
	"slices"
	"testing"
)

// Whoever puts wakes the taker, and order holds.
func TestQueue(t *testing.T) {
	q := newQueue[int]()
	for i := range 3 {
		q.put(i)
	}
	for i := range 3 {
		select {
		case <-q.wake:
		default:
			t.Fatalf("nobody was woken for item %d", i)
		}
		q.wake <- struct{}{} // as long as nothing is drained
	}
	if items := q.drain(nil); !slices.Equal(items, []int{0, 1, 2}) {
		t.Errorf("drained %v", items)
	}
	q.put(7)
	q.put(8)
	items := q.drain(nil)
	q.put(9)
	if !slices.Equal(items, []int{7, 8}) || q.len() != 1 {
		t.Errorf("drained %v, %d left", items, q.len())
	}
	if again := q.drain(items); !slices.Equal(again, []int{9}) || items[0] != 0 {
		t.Errorf("drained %v; what was dealt with: %v", again, items)
	}
}
