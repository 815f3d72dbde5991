package xfrm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// Abilities of a kernel.
type Abilities struct {
	// ESP and Interface are nil where ESP and xfrm interfaces work, and say
	// otherwise why they don't. Without both there is no backend.
	ESP, Interface error
	// Algorithms that ESP can do here, best first.
	Algorithms []dataplane.Algorithm
	// IPv6: ESP works over IPv6, too.
	IPv6 bool
	// Direction of an SA can be told to the kernel (Linux 6.10), so that an
	// outbound one needs no replay window.
	Direction bool
	// GRO gathers ESP in UDP before it is opened (Linux 6.7, with esp4_offload
	// or esp6_offload). Only a backend knows.
	GRO bool
	// Offload: the hardware that was asked for takes SAs. Only a backend knows.
	Offload bool
}

// Err is nil where a Backend can run.
func (a Abilities) Err() error { return errors.Join(a.ESP, a.Interface) }

// LogValue is for a log line.
func (a Abilities) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int("algorithms", len(a.Algorithms)), slog.Bool("ipv6", a.IPv6), slog.Bool("direction", a.Direction),
		slog.Bool("udp_gro", a.GRO), slog.Bool("crypto_offload", a.Offload))
}

// tellLacks says what is done without, because this kernel doesn't have it.
func (b *Backend) tellLacks() {
	for _, l := range []struct {
		has  bool
		what string
	}{
		{b.abilities.IPv6, "ESP over IPv6"},
		{b.abilities.Direction, "direction of SAs (Linux 6.10): outbound ones have a replay window that nobody uses"},
		{b.abilities.GRO, "GRO of ESP in UDP (Linux 6.7, with esp4_offload and esp6_offload): it is opened packet by packet"},
	} {
		if !l.has {
			b.config.Logger.Info("this kernel lacks something of XFRM", slog.String("without", l.what))
		}
	}
}

// probeID is the interface ID that a probe uses for a moment.
const probeID = 0x7E57_0001

// Probe tries what a backend needs: it makes SAs that no packet can meet and an
// xfrm interface that stays down, and removes them. Where it may, it does so in a
// network namespace of its own. The kernel may load modules.
func Probe() Abilities {
	found := make(chan Abilities)
	go func() { found <- probeApart() }()
	return <-found
}

// probeApart is to be its goroutine's last call but for telling.
func probeApart() Abilities {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer own.Close()
		err = unix.Unshare(unix.CLONE_NEWNET)
	}
	if err != nil { // not allowed
		runtime.UnlockOSThread()
		return probeHere()
	}
	a := probeHere()
	// Only a thread that is back is given to others. The others end, but for the
	// main thread, which /proc takes for the process.
	if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return a
}

func probeHere() Abilities {
	c, err := dial()
	if err != nil {
		return Abilities{ESP: fmt.Errorf("%w: no XFRM: %w", ErrKernel, err)}
	}
	defer c.close()
	a := probe(c, probeID)
	i, err := CreateInterface(fmt.Sprintf("rgprobe%d", os.Getpid()%1e6), probeID, 0)
	if err == nil {
		err = i.Close()
	}
	if err != nil {
		a.Interface = fmt.Errorf("%w: no xfrm interface: %w", ErrKernel, err)
	}
	return a
}

// probe makes SAs and removes them at once.
func probe(c *conn, ifID uint32) (a Abilities) {
	var refused error
	for _, alg := range esp.Supported() {
		if !known(alg) {
			continue
		}
		s := trial(documentation4, alg)
		s.ifID = ifID
		if err := try(c, s); err != nil {
			refused = err
			continue
		}
		a.Algorithms = append(a.Algorithms, alg)
	}
	if len(a.Algorithms) == 0 {
		a.ESP = fmt.Errorf("%w: no ESP: %w", ErrKernel, refused)
		return a
	}
	s := trial(documentation6, a.Algorithms[0])
	s.ifID = ifID
	a.IPv6 = try(c, s) == nil
	// With ESN and without a window only an outbound SA that says so is taken.
	s = trial(documentation4, a.Algorithms[0])
	s.ifID, s.outbound, s.directed, s.esn = ifID, true, true, true
	a.Direction = try(c, s) == nil
	return a
}

var (
	documentation4 = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	documentation6 = netip.MustParseAddr("2001:db8::1")
)

// trial is an SA to an address of nobody.
func trial(dst netip.Addr, alg dataplane.Algorithm) *state {
	encryption, integrity, _ := alg.KeyLengths()
	keys := dataplane.Keys{Encryption: make([]byte, encryption), Integrity: make([]byte, integrity)}
	rand.Read(keys.Encryption) // 3DES refuses a key of equal thirds
	rand.Read(keys.Integrity)
	var spi [4]byte
	rand.Read(spi[:])
	return &state{
		id: stateID{dst, dataplane.SPI(binary.BigEndian.Uint32(spi[:]) | 1<<31)}, src: dst.Next(),
		reqid: reqidFirst, alg: alg, keys: keys,
	}
}

// try makes an SA and removes it.
func try(c *conn, s *state) error {
	var q batch
	q.newSA(msgNewSA, s)
	q.byID(msgDelSA, s.id)
	return c.do(&q, nil)[0]
}
