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

	"github.com/roamgate/roamgate/integration/netns"
)

// TestSoakPacketCost tells what guard and access cost a packet on its way from a
// device to the host inside and back, against programs at the same hooks that do
// nothing, and against none. It runs in the virtual machine, whose clock counts
// instructions. The figures are for the whole way, both ends included.
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
	measure := func() (cost [2]time.Duration) {
		for i, size := range sizes {
			cost[i] = thereAndBack(t, device, host, size-28)
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
		t.Logf("%d octets there and back: bare %v, with programs that do nothing %v, with guard and access %v; ours/no-op %.3f",
			size, bare[i], idle[i], ours[i], float64(ours[i])/float64(idle[i]))
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

// thereAndBack is how long a datagram takes from one socket to the other and
// back, on average.
func thereAndBack(t *testing.T, device, host *net.UDPConn, payload int) time.Duration {
	t.Helper()
	to, back := device.LocalAddr().(*net.UDPAddr).AddrPort(), host.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, payload)
	const warm, times = 200, 2000
	var began time.Time
	for n := range warm + times {
		if n == warm {
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
	return time.Since(began) / times
}
