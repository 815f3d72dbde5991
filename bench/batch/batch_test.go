package batch

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// What comes arrives whole, in order and with its sender, also more than one call
// takes, and what is too long is cut; closing ends it, and an error of the kernel
// doesn't.
func TestServe(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(conn)
			if err != nil {
				t.Fatal(err)
			}
			sender, err := net.DialUDP("udp", nil, s.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			send := func(n, size int) {
				t.Helper()
				if _, err := sender.Write(bytes.Repeat([]byte{byte(n)}, size)); err != nil {
					t.Fatal(err)
				}
			}
			const before = 2*most + 3
			for n := range before {
				send(n, n+1)
			}
			// Nobody listens there: the answer comes as an error of the next call.
			gone, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
			if err != nil {
				t.Fatal(err)
			}
			nowhere := gone.LocalAddr().(*net.UDPAddr).AddrPort()
			gone.Close()
			if _, err := s.WriteToUDPAddrPort([]byte{1}, nowhere); err != nil {
				t.Fatal(err)
			}
			type datagram struct {
				data []byte
				from netip.AddrPort
			}
			came := make(chan datagram, 100)
			ended := make(chan error, 1)
			go func() {
				ended <- s.Serve(func(data []byte, from netip.AddrPort) { came <- datagram{bytes.Clone(data), from} })
			}()
			from := sender.LocalAddr().(*net.UDPAddr).AddrPort()
			want := func(n, size int) {
				t.Helper()
				select {
				case d := <-came:
					if got := netip.AddrPortFrom(d.from.Addr().Unmap(), d.from.Port()); got != from || !bytes.Equal(d.data, bytes.Repeat([]byte{byte(n)}, size)) {
						t.Fatalf("datagram %d: %d octets from %v, want %d from %v", n, len(d.data), d.from, size, from)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("datagram %d didn't come", n)
				}
			}
			for n := range before {
				want(n, n+1)
			}
			send(1, longest+100)
			want(1, longest)
			send(2, 0)
			want(2, 0)
			s.Close()
			select {
			case err := <-ended:
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("Serve: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Serve goes on after Close")
			}
		})
	}
}
