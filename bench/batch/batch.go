// Package batch is a UDP socket from which many datagrams are taken by one system
// call (recvmmsg(2)), for sockets that many simulated devices share.
//
// What lives here: that socket. What doesn't: whose datagrams they are (package
// device), bundles of UDP_GRO and the gateway's sockets (package encap).
package batch

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// most datagrams that one call takes.
	most = 32
	// longest datagram in octets; what is longer is cut.
	longest = 8 << 10
)

// Socket is a *net.UDPConn that also gives batches.
type Socket struct {
	*net.UDPConn
	raw syscall.RawConn
}

// New takes a socket over.
func New(conn *net.UDPConn) (*Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Socket{UDPConn: conn, raw: raw}, nil
}

// Serve gives each datagram that comes to take, for the time of the call, until the
// socket is closed. Errors that tell of something that was sent before (udp(7)) are
// passed over. Errors: net.ErrClosed.
func (s *Socket) Serve(take func(data []byte, from netip.AddrPort)) error {
	return s.raw.Read(func(fd uintptr) bool {
		b := batches.Get().(*batch)
		defer batches.Put(b)
		for {
			n, err := b.receive(fd)
			for i := range n {
				take(b.datagram(i))
			}
			// Less than there was room for, or nothing: whatever comes now wakes
			// this socket again.
			if err == unix.EAGAIN || err == 0 && n < most {
				return false
			}
		}
	})
}

// batch of datagrams; sockets have one only while they read.
type batch struct {
	headers [most]header
	vectors [most]unix.Iovec
	names   [most]unix.RawSockaddrInet6 // room for either family
	buffers [most][longest]byte
}

// header is struct mmsghdr.
type header struct {
	unix.Msghdr
	length uint32
}

var batches = sync.Pool{New: func() any {
	b := new(batch)
	for i := range b.headers {
		b.vectors[i].Base = &b.buffers[i][0]
		b.vectors[i].SetLen(longest)
		b.headers[i].Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.headers[i].Iov = &b.vectors[i]
		b.headers[i].SetIovlen(1)
	}
	return b
}}

func (b *batch) receive(fd uintptr) (n int, err syscall.Errno) {
	for i := range b.headers {
		b.headers[i].Namelen = uint32(unsafe.Sizeof(b.names[i]))
	}
	r, _, err := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers)), most, unix.MSG_DONTWAIT, 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(r), 0
}

func (b *batch) datagram(i int) ([]byte, netip.AddrPort) {
	n := &b.names[i]
	// The port stands at the same place in both families, in network order.
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&n.Port))[:])
	from := netip.AddrFrom16(n.Addr)
	if n.Family == unix.AF_INET {
		from = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr)
	}
	return b.buffers[i][:b.headers[i].length], netip.AddrPortFrom(from, port)
}
