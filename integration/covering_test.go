package integration

import (
	"math/rand/v2"
	"testing"
)

// covering makes rows of one value for each dimension, of which sizes tells how
// many values it has, such that each two values of different dimensions stand
// together in some row. It is greedy: a row begins with a pair that is missing
// and takes in the other dimensions what adds most missing pairs.
func covering(sizes []int) [][]int {
	type pair struct{ d1, v1, d2, v2 int }
	var missing []pair
	open := map[pair]bool{}
	for d1 := range sizes {
		for d2 := d1 + 1; d2 < len(sizes); d2++ {
			for v1 := range sizes[d1] {
				for v2 := range sizes[d2] {
					missing = append(missing, pair{d1, v1, d2, v2})
					open[pair{d1, v1, d2, v2}] = true
				}
			}
		}
	}
	of := func(d1, v1, d2, v2 int) pair {
		if d1 > d2 {
			return pair{d2, v2, d1, v1}
		}
		return pair{d1, v1, d2, v2}
	}
	var rows [][]int
	ties := rand.New(rand.NewPCG(1, 2)) // the same rows each time
	for _, first := range missing {
		if !open[first] {
			continue
		}
		const unset = -1
		row := make([]int, len(sizes))
		for d := range row {
			row[d] = unset
		}
		row[first.d1], row[first.d2] = first.v1, first.v2
		for d := range row {
			if row[d] != unset {
				continue
			}
			best, most := 0, -1
			for _, v := range ties.Perm(sizes[d]) {
				gain := 0
				for other, w := range row {
					if w != unset && open[of(d, v, other, w)] {
						gain++
					}
				}
				if gain > most {
					best, most = v, gain
				}
			}
			row[d] = best
		}
		for d1 := range row {
			for d2 := d1 + 1; d2 < len(row); d2++ {
				delete(open, pair{d1, row[d1], d2, row[d2]})
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func TestCoveringCoversEachPair(t *testing.T) {
	for _, sizes := range [][]int{{2, 2}, {3, 1, 4}, {9, 7, 7, 8, 3, 2, 2}} {
		rows := covering(sizes)
		for d1 := range sizes {
			for d2 := d1 + 1; d2 < len(sizes); d2++ {
				together := map[[2]int]bool{}
				for _, row := range rows {
					together[[2]int{row[d1], row[d2]}] = true
				}
				if len(together) != sizes[d1]*sizes[d2] {
					t.Errorf("%v: dimensions %d and %d meet in %d pairs of %d", sizes, d1, d2, len(together), sizes[d1]*sizes[d2])
				}
			}
		}
		t.Logf("%v: %d rows", sizes, len(rows))
	}
}
