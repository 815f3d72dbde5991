package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// KernelIPsec returns nil where the kernel has what IPsec in it takes, and
// otherwise what is missing: it makes an xfrm interface and an SA with AES-GCM
// in a namespace that it removes again. It needs root.
func KernelIPsec() (err error) {
	n, err := New(fmt.Sprintf("rg-%d-ipsec", os.Getpid()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	return n.Do(func() error {
		link := &netlink.Xfrmi{LinkAttrs: netlink.NewLinkAttrs(), Ifid: 1}
		link.Name = "ipsec0"
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("making an xfrm interface: %w", err)
		}
		err := netlink.XfrmStateAdd(&netlink.XfrmState{
			Src: net.IPv4(127, 0, 0, 1), Dst: net.IPv4(127, 0, 0, 2), Spi: 256,
			Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, ReplayWindow: 32,
			Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: make([]byte, 20), ICVLen: 128},
		})
		if err != nil {
			return fmt.Errorf("making an SA of ESP with AES-GCM: %w", err)
		}
		return nil
	})
}

// NeedKernelIPsec skips a test where the kernel has no IPsec. Such tests have
// names that begin with TestXFRM: `make test` runs them in the virtual
// machine, or here where the kernel has it.
func NeedKernelIPsec(t testing.TB) {
	t.Helper()
	if os.Getenv(IntegrationEnv) == "" {
		t.Skip("needs root and IPsec in the kernel: run `make test`, or `go run ./integration/vm run` with this package")
	}
	if err := KernelIPsec(); err != nil {
		t.Skipf("needs IPsec in the kernel (%v): `go run ./integration/vm run` has one", err)
	}
}

// SAs counts those of the kernel's IPsec inside the namespace.
func (n *Namespace) SAs() (int, error) {
	var states []netlink.XfrmState
	err := n.Do(func() (err error) {
		states, err = netlink.XfrmStateList(netlink.FAMILY_ALL)
		return err
	})
	return len(states), err
}

// IPsecErrors are the counters of /proc/net/xfrm_stat that aren't zero, such
// as XfrmInNoStates.
func (n *Namespace) IPsecErrors() (map[string]uint64, error) {
	var text []byte
	err := n.Do(func() (err error) {
		// thread-self: /proc/net is that of the process' first thread.
		text, err = os.ReadFile("/proc/thread-self/net/xfrm_stat")
		return err
	})
	if err != nil {
		return nil, err
	}
	counters := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		count, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/net/xfrm_stat: %w", err)
		}
		if count > 0 {
			counters[fields[0]] = count
		}
	}
	return counters, nil
}
