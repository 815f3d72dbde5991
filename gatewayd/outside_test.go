package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The sockets for devices are bound to the external interface: what devices send
// through their tunnels to the gateway's outer address doesn't reach them, and
// nothing that they send goes back into the tunnel.
func TestSocketsAreBoundOutside(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	twoLinks(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "gatewayd.yaml")
	if code, _, errOut := cli(t, "init", "--dir", dir, "--external", "gw-out", "--id", "vpn.example.com"); code != exitOK {
		t.Fatal(errOut)
	}
	gateway := begin(t, file)
	bound := boundDevices(t, 500, 4500)
	if len(bound) != 2 || bound[500] != "gw-out" || bound[4500] != "gw-out" {
		t.Errorf("bound by port: %v, want gw-out", bound)
	}
	if code, _, errOut := cli(t, "stop", "--config", file); code != exitOK {
		t.Error(errOut)
	}
	gateway.wait(t)
}

// boundDevices of this process's UDP sockets, by port.
func boundDevices(t *testing.T, ports ...int) map[int]string {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int]string)
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err != nil || kind != unix.SOCK_DGRAM {
			continue
		}
		address, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		at, ok := address.(*unix.SockaddrInet4)
		for _, port := range ports {
			if !ok || at.Port != port {
				continue
			}
			if found[port], err = unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil {
				t.Error(err)
			}
		}
	}
	return found
}
