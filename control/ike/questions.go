package ike

import (
	"slices"
	"time"
)

// continuation takes the answer to a question.
type continuation func(now time.Time, in Input)

// questions that are open, each with its continuation. There are hardly ever more
// than two.
type questions []question

type question struct {
	id   WorkID
	then continuation
}

func (q questions) index(id WorkID) int {
	return slices.IndexFunc(q, func(open question) bool { return open.id == id })
}

// of a number; nil if there is no such question.
func (q questions) of(id WorkID) continuation {
	if i := q.index(id); i >= 0 {
		return q[i].then
	}
	return nil
}

// put a question, in the place of the one that has its number.
func (q *questions) put(id WorkID, then continuation) {
	q.take(id)
	*q = append(*q, question{id, then})
}

// take one that is answered; nil if there is no such question.
func (q *questions) take(id WorkID) continuation {
	i := q.index(id)
	if i < 0 {
		return nil
	}
	then := (*q)[i].then
	*q = slices.Delete(*q, i, i+1)
	return then
}
