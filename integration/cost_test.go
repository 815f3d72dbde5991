package integration

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/integration/netns"
)

// TestSoakPacketCost tells what guard and access cost a packet on its way from a
// device to the host inside and back, against programs at the same hooks that do
// nothing, and against none. It runs in the virtual machine, whose clock counts
// instructions. The whole way, both ends included, differs from run to run by more
// than programs take; so what they take is asked of the kernel, which measures
// each run of a program, and the ratio is that of the way with programs that do
// nothing, with and without the difference.
//
//	dev1 (strongSwan, kernel ESP) -- gw (kernel ESP, with and without gatewayd's programs) -- lan
func TestSoakPacketCost(t *testing.T) {
	if os.Getenv(netns.VMEnv) == "" {
		t.Skip("only in the virtual machine: go run ./integration/vm run ./integration -run TestSoakPacketCost")
	}
	s := inKernel(t, options{configure: func(s *scenario) {
		s.conf.Extra = "    groups: [{name: staff, devices: [dev1], rules: [allow 10.2.0.0/24 udp]}]\n  access: {enforce: bpf}\n"
		s.conf.Guard = `{mode: generic, pins: ""}`
	}})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	address := s.connect(t, client)
	status, err := s.gw.Status(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	device := udp(t, client.Namespace(), netip.AddrPortFrom(address, 6000))
	host := udp(t, s.top.LAN, netip.AddrPortFrom(netns.LANHost, openPort))
	sizes := []int{64, 1400}
	measure := func() (cost [2]way) {
		for i, size := range sizes {
			cost[i].whole = thereAndBack(t, device, host, size-28)
			before := programTime(t)
			stop, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			if err != nil {
				t.Fatal(err)
			}
			thereAndBack(t, device, host, size-28)
			if err := stop.Close(); err != nil {
				t.Fatal(err)
			}
			cost[i].programs = (programTime(t) - before) / (warmTrips + trips)
		}
		return cost
	}
	ours := measure()
	s.gw.Kill() // what is in the kernel stays
	if err := os.RemoveAll("/sys/fs/bpf/gatewayd"); err != nil {
		t.Fatal(err)
	}
	bare := measure()
	if err := s.top.Gateway.Do(func() error {
		return errors.Join(passAll(t, ebpf.XDP, 2, netns.OutsideLink), passAll(t, ebpf.SchedCLS, -1, status.Interface))
	}); err != nil {
		t.Fatal(err)
	}
	idle := measure()
	for i, size := range sizes {
		more := ours[i].programs - idle[i].programs
		t.Logf("%d octets there and back: bare %v, with programs that do nothing %v, with guard and access %v; programs %v and %v a trip; ours/no-op %.3f",
			size, bare[i].whole, idle[i].whole, ours[i].whole, idle[i].programs, ours[i].programs, float64(idle[i].whole+more)/float64(idle[i].whole))
		if idle[i].programs == 0 || more <= 0 || bare[i].programs != 0 {
			t.Errorf("programs took %v a trip where they are ours, %v where they do nothing, %v where there are none", ours[i].programs, idle[i].programs, bare[i].programs)
		}
	}
}

// way is what a trip there and back takes, and how much of it BPF programs do.
type way struct{ whole, programs time.Duration }

// programTime is how long the programs that are loaded have run, where the kernel
// measures it.
func programTime(t *testing.T) (sum time.Duration) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return sum
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		program, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		stats, err := program.Stats()
		program.Close()
		if err != nil {
			t.Fatal(err)
		}
		sum += stats.Runtime
	}
}

// passAll attaches programs that do nothing where guard, or access, would be.
func passAll(t *testing.T, kind ebpf.ProgramType, verdict int32, name string) error {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}})
	if err != nil {
		return err
	}
	t.Cleanup(func() { program.Close() })
	var links []link.Link
	if kind == ebpf.XDP {
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: i.Index, Flags: link.XDPGenericMode})
		if err != nil {
			return err
		}
		links = append(links, l)
	} else {
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: program, Attach: at})
			if err != nil {
				return err
			}
			links = append(links, l)
		}
	}
	for _, l := range links {
		t.Cleanup(func() { l.Close() })
	}
	return nil
}

// trips that are measured, after warmTrips that aren't.
const warmTrips, trips = 200, 2000

// thereAndBack is how long a datagram takes from one socket to the other and
// back, on average.
func thereAndBack(t *testing.T, device, host *net.UDPConn, payload int) time.Duration {
	t.Helper()
	to, back := device.LocalAddr().(*net.UDPAddr).AddrPort(), host.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, payload)
	var began time.Time
	for n := range warmTrips + trips {
		if n == warmTrips {
			began = time.Now()
		}
		for _, leg := range []struct {
			from, to *net.UDPConn
			at       netip.AddrPort
		}{{device, host, back}, {host, device, to}} {
			if _, err := leg.from.WriteToUDPAddrPort(buf, leg.at); err != nil {
				t.Fatal(err)
			}
			if err := leg.to.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := leg.to.ReadFromUDPAddrPort(buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	return time.Since(began) / trips
}
