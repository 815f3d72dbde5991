package integration

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/integration/netns"
)

// flood is a bounded attack on the half-open IKE SAs of a gateway, from several
// networks. Some sources can't receive, or don't care: they send IKE_SA_INIT
// after IKE_SA_INIT. Others answer the cookie and say nothing more. The rest
// finish the key exchange and send an IKE_AUTH that lacks its last fragment.
type flood struct {
	runs sync.WaitGroup
	init []byte // a valid IKE_SA_INIT

	sent     atomic.Uint64 // IKE_SA_INIT, with and without a cookie
	cookies  atomic.Uint64 // answers that ask for one
	begun    atomic.Uint64 // answers that begin an IKE SA
	partial  atomic.Uint64 // IKE_AUTH without the last fragment
	complete atomic.Uint64 // IKE_AUTH that had no fragments, or was answered
}

const (
	// floodNetworks are the attackers', each an IPv4 /24, for which the gateway
	// counts.
	floodNetworks = 6
	// floodEach is how often a source sends an IKE_SA_INIT of its own accord; each
	// network has one that ignores cookies and one that answers.
	floodEach = 10 * time.Millisecond
	// floodPartial devices at a time send fragments, each for floodLinger.
	floodPartial = 24
	floodLinger  = 500 * time.Millisecond
)

// startFlood lays the networks behind a device and begins. It ends with ctx;
// Wait is for the end.
func (s *scenario) startFlood(t *testing.T, ctx context.Context, dev netns.Device, id identity) *flood {
	t.Helper()
	cfg := s.simulatedConfig(dev, id)
	profile := *device.Windows10Profile
	profile.IKE = []string{"aes128gcm16-prfsha256-curve25519"}
	cfg.Profile = &profile
	f := &flood{init: oneInit(t, cfg)}

	var sources []netip.Addr
	for i := range floodNetworks {
		at := netip.AddrFrom4([4]byte{10, 1, byte(101 + i), 2})
		if err := dev.AddAddress(netns.HostLink, netip.PrefixFrom(at, 24)); err != nil {
			t.Fatal(err)
		}
		if err := s.top.Router.AddRoute(netip.PrefixFrom(at, 24).Masked(), dev.Address); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, at)
		for _, polite := range []bool{false, true} {
			conn, err := listenUDP(dev.Namespace, at)
			if err != nil {
				t.Fatal(err)
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			f.runs.Go(func() { f.send(ctx, conn, cfg.Gateway) })
			f.runs.Go(func() { f.answer(conn, cfg.Gateway, polite) })
		}
	}
	for i := range floodPartial {
		at := sources[i%len(sources)]
		f.runs.Go(func() {
			cfg := cfg
			cfg.Listen = func() (device.Socket, error) {
				conn, err := listenUDP(dev.Namespace, at)
				return &fragmentsLost{conn, f}, err
			}
			for ctx.Err() == nil {
				f.connectInPart(ctx, cfg)
			}
		})
	}
	return f
}

func (f *flood) connectInPart(ctx context.Context, cfg device.Config) {
	ctx, cancel := context.WithTimeout(ctx, floodLinger)
	defer cancel()
	d, err := device.New(cfg)
	if err == nil {
		_, err = d.Connect(ctx)
	}
	if err == nil {
		f.complete.Add(1)
		d.Vanish()
	}
	<-ctx.Done()
}

// send sends one IKE_SA_INIT after the other, each for an IKE SA of its own.
func (f *flood) send(ctx context.Context, conn *net.UDPConn, to netip.AddrPort) {
	message := append([]byte(nil), f.init...)
	each := time.NewTicker(floodEach)
	defer each.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-each.C:
		}
		_, _ = rand.Read(message[:8])
		if _, err := conn.WriteToUDPAddrPort(message, to); err == nil {
			f.sent.Add(1)
		}
	}
}

// answer counts what comes back, and where it is polite sends the cookie
// (RFC 7296 section 2.6).
func (f *flood) answer(conn *net.UDPConn, to netip.AddrPort, polite bool) {
	buffer := make([]byte, 2048)
	for {
		n, err := conn.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < initHeader {
			continue
		}
		payload, ok := cookiePayload(buffer[:n])
		if !ok {
			f.begun.Add(1)
			continue
		}
		f.cookies.Add(1)
		if !polite {
			continue
		}
		again := append([]byte(nil), f.init[:initHeader]...)
		copy(again, buffer[:8])
		payload[0], again[16] = again[16], payloadNotify
		again = append(append(again, payload...), f.init[initHeader:]...)
		binary.BigEndian.PutUint32(again[24:], uint32(len(again)))
		if _, err := conn.WriteToUDPAddrPort(again, to); err == nil {
			f.sent.Add(1)
		}
	}
}

// Numbers of RFC 7296 sections 3.1 and 3.2, RFC 7383 section 2.5.
const (
	initHeader      = 28
	payloadNotify   = 41
	payloadFragment = 53
	notifyCookie    = 16390
)

// cookiePayload is the notify of an answer that asks for a cookie, header
// included.
func cookiePayload(message []byte) ([]byte, bool) {
	p := message[initHeader:]
	if message[16] != payloadNotify || len(p) < 8 || binary.BigEndian.Uint16(p[6:]) != notifyCookie {
		return nil, false
	}
	if n := int(binary.BigEndian.Uint16(p[2:])); n >= 8 && n <= len(p) {
		return p[:n], true
	}
	return nil, false
}

// fragmentsLost is a socket that sends of a message in fragments all but the
// last.
type fragmentsLost struct {
	*net.UDPConn
	flood *flood
}

func (s *fragmentsLost) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if to.Port() != 4500 {
		s.flood.sent.Add(1)
		return s.UDPConn.WriteToUDPAddrPort(b, to)
	}
	// Behind the non-ESP marker: the header, the payload's header, its number and
	// how many there are.
	if len(b) < 4+initHeader+8 || isESP(b) || b[4+16] != payloadFragment {
		s.flood.complete.Add(1)
		return len(b), nil
	}
	if p := b[4+initHeader:]; binary.BigEndian.Uint16(p[4:]) == binary.BigEndian.Uint16(p[6:]) {
		s.flood.partial.Add(1)
		return len(b), nil
	}
	return s.UDPConn.WriteToUDPAddrPort(b, to)
}

// oneInit is the first message of a device.
func oneInit(t *testing.T, cfg device.Config) []byte {
	t.Helper()
	listen, first := cfg.Listen, make(chan []byte, 1)
	cfg.Listen = func() (device.Socket, error) {
		s, err := listen()
		return &firstOnly{s, first}, err
	}
	d, err := device.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	go func() { _, _ = d.Connect(ctx) }()
	select {
	case message := <-first:
		return message
	case <-ctx.Done():
		t.Fatal("the device sent no IKE_SA_INIT")
		return nil
	}
}

// firstOnly sends nothing and shows the first datagram.
type firstOnly struct {
	device.Socket
	first chan<- []byte
}

func (s *firstOnly) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	select {
	case s.first <- append([]byte(nil), b...):
	default:
	}
	return len(b), nil
}
