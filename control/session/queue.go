package session

import "sync"

// fifo is a queue that gives its memory back when it is empty. It has room for twice
// what waits at most.
type fifo[T any] struct {
	items []T
	taken int // from the front
}

func (f *fifo[T]) put(item T) {
	if len(f.items) == cap(f.items) && f.taken > len(f.items)/2 {
		n := copy(f.items, f.items[f.taken:])
		clear(f.items[n:])
		f.items, f.taken = f.items[:n], 0
	}
	f.items = append(f.items, item)
}

func (f *fifo[T]) len() int { return len(f.items) - f.taken }

func (f *fifo[T]) peek() (item T, ok bool) {
	if f.len() == 0 {
		return item, false
	}
	return f.items[f.taken], true
}

func (f *fifo[T]) take() (item T, ok bool) {
	if f.len() == 0 {
		return item, false
	}
	var none T
	item, f.items[f.taken] = f.items[f.taken], none
	if f.taken++; f.taken == len(f.items) {
		*f = fifo[T]{}
	}
	return item, true
}

// queue is unbounded and never blocks whoever puts; what bounds it is said
// where it is used. It has one taker.
type queue[T any] struct {
	wake chan struct{} // capacity 1: something may be there

	mu    sync.Mutex
	items []T
}

func newQueue[T any]() *queue[T] { return &queue[T]{wake: make(chan struct{}, 1)} }

func (q *queue[T]) put(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// maxKept is how many items' room a queue keeps when it is drained, so that a
// burst doesn't cost its memory for ever.
const maxKept = 4096

// drain returns all items and leaves done, whose items were dealt with, to be
// filled again.
func (q *queue[T]) drain(done []T) []T {
	clear(done)
	if cap(done) > maxKept {
		done = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = done[:0]
	return items
}

func (q *queue[T]) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
