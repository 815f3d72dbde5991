package session

import "sync"

// queue is unbounded and never blocks whoever puts; what bounds it is said
// where it is used. There may be several takers.
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
	q.notify()
}

func (q *queue[T]) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the first item and wakes another taker if there are more.
func (q *queue[T]) take() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item, false
	}
	var none T
	item, q.items[0] = q.items[0], none
	q.items = q.items[1:]
	if len(q.items) > 0 {
		q.notify()
	}
	return item, true
}

// drain returns all items and leaves done, whose items were dealt with, to be
// filled again.
func (q *queue[T]) drain(done []T) []T {
	clear(done)
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
