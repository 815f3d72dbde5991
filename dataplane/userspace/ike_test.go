package userspace

import (
	"bytes"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

// A flood of first messages leaves room for those who come with a cookie or to
// their IKE SA, in the order in which they came.
func TestStrangersLeaveRoom(t *testing.T) {
	q := newIKEQueue()
	message := func(exchange, payload byte) []byte {
		b := make([]byte, 1000-ikeOverhead)
		b[18], b[16] = exchange, payload
		return b
	}
	first, cookie, auth := message(34, 33), message(34, 41), message(35, 46)
	put := func(m []byte) bool { return q.put(m, loopback4.IKE, loopback4.IKE, false) }
	in := 0
	for put(first) {
		in++
	}
	const room = ikeQueueOctets / 1000
	if in != room/2 {
		t.Errorf("%d first messages have room, want half of %d", in, room)
	}
	others := 0
	for ; put([][]byte{cookie, auth}[others%2]); others++ {
		if put(first) {
			t.Fatal("a first message found room behind the half")
		}
	}
	if in+others != room {
		t.Errorf("%d others have room, want the rest of %d", others, room)
	}
	if put(first) {
		t.Error("a first message found room when it was full")
	}
	batch := make([]dataplane.Datagram, 32)
	got := 0
	for {
		for i := range batch {
			batch[i].Data = make([]byte, 2000)
		}
		n := q.take(batch)
		for _, d := range batch[:n] {
			want := first
			if got >= in {
				want = [][]byte{cookie, auth}[(got-in)%2]
			}
			if !bytes.Equal(d.Data, want) {
				t.Fatalf("message %d is % x", got, d.Data[:40])
			}
			got++
		}
		if n == 0 {
			break
		}
		// What is read is out of the way already.
		if got == 2*len(batch) && !put(first) {
			t.Error("no room although the queue is being read")
		}
		if got == room {
			break
		}
	}
	if n := q.take(batch); n != 1 || got != room {
		t.Errorf("%d messages, then %d, want %d, then one that came meanwhile", got, n, room)
	}
}
