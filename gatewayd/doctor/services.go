package doctor

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// States of sockets in /proc/net/tcp and /proc/net/udp.
const (
	tcpListen = "0A"
	udpClosed = "07" // not connected: it takes from anybody
)

// dhcpServer is where DHCPINFORM is taken.
var dhcpServer = netip.AddrPortFrom(netip.IPv4Unspecified(), 67)

// services of this host that wait at more than loopback: devices reach them at
// its addresses through the tunnel, because gatewayd filters no packets.
func services(config Config) []Check {
	var open []string
	for _, table := range []struct{ protocol, file, state string }{
		{"tcp", "tcp", tcpListen}, {"tcp", "tcp6", tcpListen}, {"udp", "udp", udpClosed}, {"udp", "udp6", udpClosed},
	} {
		text, err := os.ReadFile("/proc/net/" + table.file)
		if err != nil {
			continue // no IPv6
		}
		for _, at := range waiting(text, table.state) {
			ours := table.protocol == "udp" && slices.Contains(config.Addresses, at.Addr()) && slices.Contains(config.Ports, at.Port())
			// Our DHCP server is bound to the tunnel, which the table doesn't say.
			ours = ours || (config.DHCP && table.protocol == "udp" && at == dhcpServer)
			if name := fmt.Sprintf("%d/%s", at.Port(), table.protocol); !ours && at != config.Metrics && !slices.Contains(open, name) {
				open = append(open, name)
			}
		}
	}
	c := Check{Name: "services of this host", State: OK, Found: "none waits at other addresses than loopback"}
	if len(open) > 0 {
		c.State, c.Found = Warn, strings.Join(open, ", ")
		c.Means = "devices reach these at those addresses of this host that gateway.static.networks has; where it is empty, at all"
		c.Do = "let the host's firewall drop what comes in by gateway.tunnel.name, or bind them to other addresses"
	}
	return []Check{c}
}

// waiting lists the sockets of a table in /proc/net that are in a state and not
// bound to loopback.
func waiting(table []byte, state string) (list []netip.AddrPort) {
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		// sl, local address, remote address, state
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		if at, ok := procAddress(fields[1]); ok && !at.Addr().IsLoopback() {
			list = append(list, at)
		}
	}
	return list
}

// procAddress reads ADDRESS:PORT in hexadecimal; the address is made of 32-bit
// words in host order.
func procAddress(s string) (netip.AddrPort, bool) {
	address, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}
