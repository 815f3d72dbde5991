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
		b := make([]byte, 40)
		b[18], b[16] = exchange, payload
		return b
	}
	first, cookie, auth := message(34, 33), message(34, 41), message(35, 46)
	put := func(m []byte) bool { return q.put(m, loopback4.IKE, loopback4.IKE, false) }
	in := 0
	for put(first) {
		in++
	}
	if in != ikeQueueLen/2 {
		t.Errorf("%d first messages have room, want half of %d", in, ikeQueueLen)
	}
	others := 0
	for ; put([][]byte{cookie, auth}[others%2]); others++ {
		if put(first) {
			t.Fatal("a first message found room behind the half")
		}
	}
	if in+others != ikeQueueLen {
		t.Errorf("%d others have room, want the rest of %d", others, ikeQueueLen)
	}
	for i := range in + 1 {
		if put(first) {
			t.Errorf("a first message found room when %d were taken", i)
		}
		d := dataplane.Datagram{Data: make([]byte, 100)}
		q.take(<-q.full, &d)
		if i == in && !bytes.Equal(d.Data, cookie) {
			t.Errorf("message %d is % x", i, d.Data)
		}
	}
	if !put(first) {
		t.Error("no room for a first message in front of the half")
	}
}
