package lease

// edit and editDevice return what they are given, to be changed by the caller; a
// rollback brings back what they were.

func (t *table) edit(l *lease) *lease {
	old := *l
	t.undo = append(t.undo, func() { *l = old })
	return l
}

func (t *table) editDevice(d *device) *device {
	old := *d
	t.undo = append(t.undo, func() { *d = old })
	return d
}

func (t *table) link(q *queue, l *lease) {
	t.edit(l)
	if q.tail != nil {
		t.edit(q.tail)
	}
	q.push(l)
}

func (t *table) unlink(q *queue, l *lease) {
	for _, neighbour := range []*lease{l.prev, l, l.next} {
		if neighbour != nil {
			t.edit(neighbour)
		}
	}
	q.remove(l)
}
