package encap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/integration/netns"
)

// numbered is datagram i of n octets.
func numbered(b []byte, i, n int) int {
	for at := range b[:n] {
		b[at] = byte(i + at)
	}
	binary.BigEndian.PutUint32(b, uint32(i))
	return n
}

// exchange sends datagrams of the given lengths from one socket to another and
// wants each whole and in order; it returns in how many messages they came.
func exchange(t *testing.T, from, to *Socket, lengths []int, tos func(i int) uint8) (messages int) {
	t.Helper()
	sender, receiver := NewSender(from, 128, 4000), NewReceiver(64)
	send := func() {
		if refused := sender.Flush(); refused != 0 {
			t.Fatalf("%d datagrams refused", refused)
		}
	}
	seen := 0
	take := func() {
		for n := receiver.Receive(to); n > 0; n = receiver.Receive(to) {
			for i := range n {
				d := receiver.Datagram(i)
				want := make([]byte, lengths[seen])
				numbered(want, seen, len(want))
				if !bytes.Equal(d.Payload, want) || d.Remote != from.Local() || d.TOS != tos(seen) || d.Truncated {
					t.Fatalf("datagram %d: %d octets, want %d; TOS %d, want %d; %v", seen, len(d.Payload), len(want), d.TOS, tos(seen), d.Remote)
				}
				if i == 0 || receiver.datagrams[i].message != receiver.datagrams[i-1].message {
					messages++
				}
				seen++
			}
		}
	}
	for i, n := range lengths {
		if sender.Full() {
			send()
			take()
		}
		sender.Push(numbered(sender.Buffer(), i, n), to.Local(), tos(i))
	}
	send()
	for seen < len(lengths) {
		set := []unix.PollFd{{Fd: int32(to.FD()), Events: unix.POLLIN}}
		if n, err := unix.Poll(set, 10_000); n == 0 && err == nil {
			t.Fatalf("%d of %d datagrams came", seen, len(lengths))
		}
		take()
	}
	return messages
}

// Runs of one length travel as one, whatever lengths and TOS octets change
// between them.
func TestBundles(t *testing.T) {
	eachFamily(t, func(t *testing.T, local string) {
		from, to := listen(t, local), listen(t, local)
		same := make([]int, 300)
		for i := range same {
			same[i] = 1000
		}
		none := func(int) uint8 { return 0 }
		// 128 buffers at once, at most 64 in a bundle.
		if got := exchange(t, from, to, same, none); got != 5 {
			t.Errorf("300 datagrams of one length came in %d messages", got)
		}
		same[10], same[20] = 400, 1200 // ends a run; begins one, which the next one ends
		if got := exchange(t, from, to, same[:64], none); got != 4 {
			t.Errorf("with a short and a long one: %d messages", got)
		}
		if got := exchange(t, from, to, same[30:40], func(i int) uint8 { return uint8(i / 5) }); got != 2 {
			t.Errorf("with two TOS octets: %d messages", got)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		var lengths, tos []int
		for range 2000 {
			if len(lengths) == 0 || rng.IntN(5) == 0 {
				lengths, tos = append(lengths, 4+rng.IntN(3000)), append(tos, rng.IntN(2)*184)
				continue
			}
			lengths, tos = append(lengths, lengths[len(lengths)-1]), append(tos, tos[len(tos)-1])
		}
		if got := exchange(t, from, to, lengths, func(i int) uint8 { return uint8(tos[i]) }); got > 1200 {
			t.Errorf("2,000 datagrams came in %d messages", got)
		}
	})
}

// Two receivers get what is theirs.
func TestBundlesToTwo(t *testing.T) {
	from, a, b := listen(t, families[0]), listen(t, families[0]), listen(t, families[0])
	sender := NewSender(from, 64, 100)
	for i := range 40 {
		to := a
		if i/10%2 == 1 {
			to = b
		}
		sender.Push(numbered(sender.Buffer(), i, 50), to.Local(), 0)
	}
	if refused := sender.Flush(); refused != 0 {
		t.Fatalf("%d refused", refused)
	}
	for k, s := range []*Socket{a, b} {
		r := NewReceiver(8)
		for i := 0; i < 20; {
			for j := range receive(t, r, s) {
				if got, want := binary.BigEndian.Uint32(r.Datagram(j).Payload), uint32(i/10*20+i%10+10*k); got != want {
					t.Errorf("socket %d got %d, want %d", k, got, want)
				}
				i++
			}
		}
	}
}

// After bundles a receiver asks for less at once, after single datagrams for
// more again.
func TestReceiverBoundsItsBatch(t *testing.T) {
	from, to := listen(t, families[0]), listen(t, families[0])
	sender, receiver := NewSender(from, 64, 100), NewReceiver(64)
	for range 64 {
		for i := range 64 {
			sender.Push(numbered(sender.Buffer(), i, 20), to.Local(), 0)
		}
		sender.Flush()
	}
	last := 0
	for left := 64 * 64; left > 0; left -= last {
		last = receive(t, receiver, to)
	}
	if receiver.ask > 8 {
		t.Errorf("asks for %d messages of 64 datagrams", receiver.ask)
	}
	for range 200 {
		if err := from.Send([][]byte{{1}}, to.Local()); err != nil {
			t.Fatal(err)
		}
	}
	for left := 200; left > 0; left -= last {
		last = receive(t, receiver, to)
	}
	if receiver.ask < 16 {
		t.Errorf("asks for %d single datagrams", receiver.ask)
	}
}

// Segments that don't fit through the interface are sent in fragments, not lost.
func TestBundlesBeyondTheMTU(t *testing.T) {
	var from, to *Socket
	netns.Within(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := errors.Join(netlink.LinkSetMTU(lo, 1280), netlink.LinkSetUp(lo)); err != nil {
			return err
		}
		if from, err = Listen(netip.MustParseAddrPort(families[0]), ""); err != nil {
			return err
		}
		to, err = Listen(netip.MustParseAddrPort(families[0]), "")
		return err
	})
	defer from.Close()
	defer to.Close()
	lengths := make([]int, 100)
	for i := range lengths {
		lengths[i] = 1200 + i/50*200 // the second half doesn't fit
	}
	exchange(t, from, to, lengths, func(int) uint8 { return 0 })
}
