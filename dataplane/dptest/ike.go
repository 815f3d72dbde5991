package dptest

import (
	"bytes"

	"github.com/roamgate/roamgate/dataplane"
)

// ikeTransport: messages both ways on both ports, told from ESP and keepalives
// by the marker.
func ikeTransport(e *env) { e.ikeAt(&e.Local) }

// ikeSecond: the same at the other address, from which the answer has to come.
func ikeSecond(e *env) { e.ikeAt(e.Second) }

func (e *env) ikeAt(at *Local) {
	d := e.deviceAt(at)
	transport := e.Backend.Transport()
	marked := func(message []byte) []byte { return append(make([]byte, 4), message...) }
	// A keepalive is nobody's message (RFC 3948 section 2.3).
	d.send([]byte{0xFF}, at.Encap)

	received := make([]dataplane.Datagram, 4)
	for _, marker := range []bool{false, true, false, true} {
		want := payload()
		if marker {
			d.send(marked(want), at.Encap)
		} else {
			d.send(want, at.IKE)
		}
		for i := range received {
			received[i] = dataplane.Datagram{Data: make([]byte, 2000)}
		}
		n, err := transport.Receive(received)
		if err != nil || n != 1 {
			e.Fatalf("Receive: %d, %v; want 1 message", n, err)
		}
		local := at.IKE
		if marker {
			local = at.Encap
		}
		got := received[0]
		if !bytes.Equal(got.Data, want) || got.Marker != marker || got.Local != local || got.Remote != d.addr() {
			e.Errorf("received %+v, want %q with marker %t", got, want, marker)
		}

		answer := payload()
		if n, err := transport.Send([]dataplane.Datagram{{Data: answer, Local: got.Local, Remote: got.Remote, Marker: marker}}); n != 1 || err != nil {
			e.Fatalf("Send: %d, %v", n, err)
		}
		if marker {
			answer = marked(answer)
		}
		if got := d.receive(); !bytes.Equal(got, answer) {
			e.Errorf("device received %q, want %q", got, answer)
		}
	}
	if drops := e.Backend.Drops(); drops != (dataplane.Drops{}) {
		e.Errorf("drops %v", drops)
	}
}

// ikeBatch: several messages at once keep their order, and a small buffer gets
// what fits.
func ikeBatch(e *env) {
	d := e.device()
	const messages = 5
	for i := range messages {
		d.send(append([]byte{byte(i)}, payload()...), e.IKE)
	}
	for seen := 0; seen < messages; {
		batch := make([]dataplane.Datagram, 3)
		for i := range batch {
			batch[i].Data = make([]byte, 3)
		}
		n, err := e.Backend.Transport().Receive(batch)
		if err != nil || n < 1 || n > len(batch) {
			e.Fatalf("Receive: %d, %v", n, err)
		}
		for _, got := range batch[:n] {
			if len(got.Data) != 3 || got.Data[0] != byte(seen) {
				e.Fatalf("message %d is %q", seen, got.Data)
			}
			seen++
		}
	}
	batch := make([]dataplane.Datagram, messages)
	for i := range batch {
		batch[i] = dataplane.Datagram{Data: []byte{byte(i), 'x'}, Local: e.IKE, Remote: d.addr()}
	}
	if n, err := e.Backend.Transport().Send(batch); n != messages || err != nil {
		e.Fatalf("Send: %d, %v", n, err)
	}
	for i := range messages {
		if got := d.receive(); !bytes.Equal(got, []byte{byte(i), 'x'}) {
			e.Errorf("message %d to the device is %q", i, got)
		}
	}
}
