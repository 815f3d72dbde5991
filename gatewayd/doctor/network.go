package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane/link"
)

// offloads of UDP sockets.
func offloads() []Check {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return []Check{{Name: "UDP offloads", State: Warn, Found: err.Error()}}
	}
	defer unix.Close(fd)
	var out []Check
	for _, o := range []struct {
		name   string
		option int
	}{{"UDP GSO (UDP_SEGMENT)", unix.UDP_SEGMENT}, {"UDP GRO", unix.UDP_GRO}} {
		c := Check{Name: o.name, State: OK, Found: "available"}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, o.option, 0); err != nil {
			c.State, c.Found = Info, "not available: "+err.Error()
		}
		out = append(out, c)
	}
	return out
}

// bundles of datagrams on the external interface.
func bundles(c Config) []Check {
	if c.External == "" {
		return nil
	}
	k := Check{Name: "receiving in bundles", State: Info}
	g, err := link.ReadGRO(c.External)
	switch {
	case err != nil:
		k.Found = err.Error()
		if c.Bundles {
			k.State, k.Means, k.Do = Fail, "gateway.external.bundles can't be had", "set it to false"
		}
		return []Check{k}
	case g.Forwarding && g.FlushTimeout != "0":
		k.State = OK
	case c.Bundles && !c.Running:
		k.Means = "gatewayd switches it on while it runs"
	case !c.Bundles:
		k.Means, k.Do = "each datagram of a client comes by itself", "gateway.external.bundles trades up to 50 us of latency for more packets a second"
	default:
		k.State, k.Means = Warn, "somebody switched it off again"
	}
	onOff := map[bool]string{true: "on", false: "off"}
	k.Found = fmt.Sprintf("rx-udp-gro-forwarding is %s, gro_flush_timeout %s ns, napi_defer_hard_irqs %s", onOff[g.Forwarding], g.FlushTimeout, g.DeferHardIRQs)
	return []Check{k}
}

// socketBuffer is what the data plane asks for in octets.
const socketBuffer = 4 << 20

func memory() Check {
	c := Check{Name: "socket buffers", State: OK}
	limit, err := readInt("/proc/sys/net/core/rmem_max")
	if err != nil {
		// Only the first network namespace shows it.
		c.State, c.Found, c.Means = Info, "net.core.rmem_max is not visible here", "CAP_NET_ADMIN goes beyond it"
		return c
	}
	c.Found = fmt.Sprintf("net.core.rmem_max is %d", limit)
	if limit < socketBuffer {
		c.State, c.Means = Info, "CAP_NET_ADMIN goes beyond it"
	}
	return c
}

// forwarding of a family as the kernel names it in /proc/sys/net.
func forwarding(family string) Check {
	c := Check{Name: "forwarding of IPv4", State: OK}
	key, where := "net.ipv4.ip_forward", "its TUN and the internal interface"
	if family == "ipv6" {
		// The kernel has it for all interfaces or for none.
		c.Name, key, where = "forwarding of IPv6", "net.ipv6.conf.all.forwarding", "all interfaces"
	}
	n, err := readInt("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	switch {
	case err != nil && family == "ipv6":
		c.State, c.Found = Fail, "no IPv6: "+err.Error()
		c.Means, c.Do = "the IPv6 pools are of no use", "boot without ipv6.disable=1, or take them out of gateway.static.pools"
	case err != nil:
		c.State, c.Found = Warn, err.Error()
	case n == 1:
		c.Found = key + " is 1"
	default:
		c.Found = key + " is 0"
		c.Means = "gatewayd switches it on for " + where + " while it runs"
	}
	return c
}

func clock(now time.Time) Check {
	c := Check{Name: "clock", State: OK, Found: now.UTC().Format(time.RFC3339)}
	var timex unix.Timex
	state, err := unix.Adjtimex(&timex)
	switch {
	case now.Year() < 2025:
		c.State, c.Means, c.Do = Fail, "certificates seem not to be valid yet", "set the clock"
	case err != nil:
		c.Found += ", synchronisation unknown"
	case state == unix.TIME_ERROR || timex.Status&unix.STA_UNSYNC != 0:
		c.State, c.Found = Warn, c.Found+", not synchronised"
		c.Means, c.Do = "validity of certificates and revocation lists is judged by it", "run an NTP client"
	}
	return c
}

func interfaces(config Config) []Check {
	if config.External == "" || config.Internal == "" {
		return nil
	}
	c := Check{Name: "interfaces", State: OK, Found: fmt.Sprintf("external %s, internal %s, on separate subnets", config.External, config.Internal)}
	if err := link.Check(config.External, config.Internal); err != nil {
		c.State, c.Found, c.Do = Fail, err.Error(), "see gateway.external and gateway.internal in the configuration"
		return []Check{c}
	}
	checks := []Check{c}
	here := addressesOf(config.External)
	for _, a := range config.Addresses {
		if !slices.Contains(here, a) {
			checks = append(checks, Check{Name: "external address", State: Fail,
				Found: fmt.Sprintf("%v is not an address of %s", a, config.External), Do: "see gateway.external.address and more_addresses in the configuration"})
		}
	}
	return checks
}

func addressesOf(name string) []netip.Addr {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	addresses, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// ports are bound for a moment, unless a gateway of ours has them.
func ports(config Config) []Check {
	if config.Running {
		return []Check{{Name: "ports", State: OK, Found: "in use by the running gateway"}}
	}
	var checks []Check
	for _, a := range config.Addresses {
		for _, port := range config.Ports {
			checks = append(checks, udpPort(netip.AddrPortFrom(a, port)))
		}
	}
	if config.Metrics.IsValid() {
		l, err := net.Listen("tcp", config.Metrics.String())
		if err == nil {
			l.Close()
		}
		checks = append(checks, portCheck("TCP "+config.Metrics.String(), "tcp", config.Metrics, err))
	}
	return checks
}

func udpPort(at netip.AddrPort) Check {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err == nil {
		conn.Close()
	}
	return portCheck("UDP "+at.String(), "udp", at, err)
}

func portCheck(name, protocol string, at netip.AddrPort, err error) Check {
	c := Check{Name: name, State: Fail}
	switch {
	case err == nil:
		c.State, c.Found = OK, "free"
	case errors.Is(err, unix.EADDRINUSE):
		c.Found, c.Do = "in use", "stop who uses it, or choose another port"
		if who := holder(protocol, at.Port()); who != "" {
			c.Found = "in use by " + who
		}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		c.Found, c.Do = "not an address of this host", "see the configuration"
	case errors.Is(err, unix.EACCES):
		c.Found, c.Do = "not for this user", "be root, or grant CAP_NET_BIND_SERVICE"
	default:
		c.Found = err.Error()
	}
	return c
}

// holder of a port by name and PID, as far as /proc shows it.
func holder(protocol string, port uint16) string {
	inodes := socketInodes(protocol, port)
	if len(inodes) == 0 {
		return ""
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, l := range links {
		target, err := os.Readlink(l)
		if err != nil || !slices.Contains(inodes, target) {
			continue
		}
		process := filepath.Dir(filepath.Dir(l))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (pid %s)", bytes.TrimSpace(name), filepath.Base(process))
	}
	return ""
}

// socketInodes as they stand in /proc/PID/fd: "socket:[123]".
func socketInodes(protocol string, port uint16) []string {
	var inodes []string
	for _, file := range []string{protocol, protocol + "6"} {
		text, err := os.ReadFile("/proc/net/" + file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > 9 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
				inodes = append(inodes, "socket:["+fields[9]+"]")
			}
		}
	}
	return inodes
}

func readInt(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
