package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane/link"
	"github.com/roamgate/roamgate/dataplane/userspace"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

func newLogger(w io.Writer, format config.LogFormat, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == config.LogJSON {
		return slog.New(hints{slog.NewJSONHandler(w, options)})
	}
	return slog.New(hints{slog.NewTextHandler(w, options)})
}

// innerMTU is what the configuration says, or what fits through the path with
// each of the algorithms that may be negotiated, over IPv6 if a device may come
// that way.
func innerMTU(c *config.Config) (int, error) {
	if c.Gateway.Tunnel.MTU != 0 {
		return c.Gateway.Tunnel.MTU, nil
	}
	smallest := c.Gateway.Tunnel.PathMTU
	outerIPv6 := slices.ContainsFunc(c.Gateway.External.Addresses(), netip.Addr.Is6)
	for _, a := range c.Gateway.Algorithms() {
		n, err := userspace.InnerMTU(c.Gateway.Tunnel.PathMTU, a, outerIPv6)
		if err != nil {
			return 0, c.Problem("gateway.esp.proposals", fmt.Sprintf("got an algorithm that the data plane can't do: %v", err))
		}
		smallest = min(smallest, n)
	}
	return smallest, nil
}

// locals are the sockets of the data plane.
func locals(e config.External) (sockets []userspace.Local) {
	for _, a := range e.Addresses() {
		sockets = append(sockets, userspace.Local{IKE: netip.AddrPortFrom(a, e.Port), Encap: netip.AddrPortFrom(a, e.NATTPort)})
	}
	return sockets
}

// maxChildren: a session that replaces another, and a Child SA that replaces
// another, exist beside it for a moment, and an SPI rests after its end. Not all
// sessions have as many Child SAs as they may.
func maxChildren(sessions int) int { return min(4*sessions+64, 1<<20-64) }

// localAccess looks up the group of the configuration.
func localAccess(c *config.Config) (local.Access, error) {
	a := local.Access{UID: uint32(os.Getuid()), Group: c.Admin.Group}
	if a.Group == "" {
		return a, nil
	}
	entry, err := user.LookupGroup(a.Group)
	if err != nil {
		return a, c.Problem("admin.group", fmt.Sprintf("got %q, expected a group of this system: %v", a.Group, err))
	}
	gid, err := strconv.ParseUint(entry.Gid, 10, 32)
	if err != nil {
		return a, c.Problem("admin.group", fmt.Sprintf("got %q, whose GID is %q", a.Group, entry.Gid))
	}
	a.GID = uint32(gid)
	return a, nil
}

// explainHost adds what to do about an error of the host.
func explainHost(err error) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EADDRINUSE):
		hint = "Another IKE daemon has the port; stop it, or change gateway.external.port and natt_port."
	case errors.Is(err, unix.EADDRNOTAVAIL):
		hint = "gateway.external.address, or one of more_addresses, is not an address of this host."
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		hint = "Run as root, or with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE."
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		hint = "Without /dev/net/tun there is no userspace data plane: modprobe tun."
	case errors.Is(err, unix.EROFS):
		hint = "gatewayd switches forwarding on for its interfaces; in a container, have /proc/sys writable there."
	case errors.Is(err, link.ErrNoInterface):
		hint = "gateway.external.interface and gateway.internal.interface name interfaces of this host; `ip link` lists them."
	case errors.Is(err, link.ErrSameSubnet):
		hint = "Put the internal interface on a subnet of its own, or devices could go round the gateway."
	default:
		return err
	}
	return hinted{err, hint}
}
