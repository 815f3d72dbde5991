package encap

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T, addr string) *Socket {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort(addr), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// receive waits for one batch.
func receive(t *testing.T, r *Receiver, s *Socket) int {
	t.Helper()
	set := []unix.PollFd{{Fd: int32(s.FD()), Events: unix.POLLIN}}
	for range 1000 {
		if n := r.Receive(s); n > 0 {
			return n
		}
		unix.Poll(set, 10)
	}
	t.Fatal("nothing was received")
	return 0
}

var families = []string{"127.0.0.1:0", "[::1]:0"}

// eachFamily runs test on IPv4 and, where the machine has it, on IPv6.
func eachFamily(t *testing.T, test func(t *testing.T, local string)) {
	for _, local := range families {
		t.Run(local, func(t *testing.T) {
			s, err := Listen(netip.MustParseAddrPort(local), "")
			if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
				t.Skipf("no such loopback: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			test(t, local)
		})
	}
}

// More datagrams than one batch, each with its own TOS octet, arrive whole and
// in order.
func TestBatches(t *testing.T) {
	eachFamily(t, func(t *testing.T, local string) {
		const batch, datagrams = 8, 20
		from, to := listen(t, local), listen(t, local)
		sender := NewSender(from, batch, 2000)
		receiver := NewReceiver(batch)
		payload := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1+37*i) }
		for i := range datagrams {
			if sender.Full() {
				if refused := sender.Flush(); refused != 0 {
					t.Fatalf("%d datagrams refused", refused)
				}
			}
			sender.Push(copy(sender.Buffer(), payload(i)), to.Local(), uint8(i*13))
		}
		if refused := sender.Flush(); refused != 0 {
			t.Fatalf("%d datagrams refused", refused)
		}
		for seen := 0; seen < datagrams; {
			n := receive(t, receiver, to)
			for i := range n {
				d := receiver.Datagram(i)
				if !bytes.Equal(d.Payload, payload(seen)) || d.Remote != from.Local() || d.TOS != uint8(seen*13) || d.Truncated {
					t.Fatalf("datagram %d: %d octets from %v, TOS %d, truncated %t", seen, len(d.Payload), d.Remote, d.TOS, d.Truncated)
				}
				seen++
			}
		}
		if n := receiver.Receive(to); n != 0 {
			t.Errorf("%d datagrams where there are none", n)
		}
	})
}

func TestTruncated(t *testing.T) {
	eachFamily(t, func(t *testing.T, local string) {
		from, to := listen(t, local), listen(t, local)
		for _, n := range []int{MaxDatagram, MaxDatagram + 1} {
			if err := from.Send([][]byte{make([]byte, n)}, to.Local()); err != nil {
				t.Fatal(err)
			}
		}
		receiver := NewReceiver(4)
		for seen := 0; seen < 2; {
			for i := range receive(t, receiver, to) {
				if d := receiver.Datagram(i); d.Truncated != (seen == 1) || len(d.Payload) != MaxDatagram {
					t.Errorf("datagram %d: %d octets, truncated %t", seen, len(d.Payload), d.Truncated)
				}
				seen++
			}
		}
	})
}

func TestSendParts(t *testing.T) {
	eachFamily(t, func(t *testing.T, local string) {
		from, to := listen(t, local), listen(t, local)
		if err := from.Send([][]byte{{0, 0, 0, 0}, []byte("IKE")}, to.Local()); err != nil {
			t.Fatal(err)
		}
		receiver := NewReceiver(1)
		receive(t, receiver, to)
		if d := receiver.Datagram(0); string(d.Payload) != "\x00\x00\x00\x00IKE" {
			t.Errorf("received %q", d.Payload)
		}
	})
}

// One datagram that the network refuses doesn't take others with it.
func TestRefused(t *testing.T) {
	from, to := listen(t, families[0]), listen(t, families[0])
	sender := NewSender(from, 8, 100)
	broadcast := netip.MustParseAddrPort("127.255.255.255:4500")
	for i, remote := range []netip.AddrPort{broadcast, to.Local(), broadcast, broadcast, to.Local(), broadcast} {
		sender.Push(copy(sender.Buffer(), fmt.Append(nil, i)), remote, 0)
	}
	if refused := sender.Flush(); refused != 4 {
		t.Errorf("%d refused, want 4", refused)
	}
	receiver := NewReceiver(8)
	var got []string
	for len(got) < 2 {
		for i := range receive(t, receiver, to) {
			got = append(got, string(receiver.Datagram(i).Payload))
		}
	}
	if got[0] != "1" || got[1] != "4" {
		t.Errorf("received %q", got)
	}
}

func TestUnusableAddresses(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", "224.0.0.1:0", "[fe80::1]:0", "[fe80::1%lo]:0"} {
		if s, err := Listen(netip.MustParseAddrPort(addr), ""); !errors.Is(err, ErrAddress) {
			t.Errorf("Listen on %s: %v, %v", addr, s, err)
		}
	}
	if _, err := Listen(netip.AddrPort{}, ""); !errors.Is(err, ErrAddress) {
		t.Errorf("Listen on nothing: %v", err)
	}
	s := listen(t, families[0])
	for _, addr := range []string{"127.0.0.1:0", "[::1]:4500"} {
		if err := s.Send([][]byte{{1}}, netip.MustParseAddrPort(addr)); !errors.Is(err, ErrAddress) {
			t.Errorf("Send to %s: %v", addr, err)
		}
	}
	if _, err := Listen(s.Local(), "nosuch0"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("Listen on an interface that isn't there: %v", err)
	}
	if _, err := Listen(s.Local(), ""); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Listen on a port that is taken: %v", err)
	}
}
