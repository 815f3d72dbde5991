package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func kernel() Check {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Check{Name: "kernel", State: Warn, Found: err.Error()}
	}
	return Check{Name: "kernel", State: OK, Found: unix.ByteSliceToString(u.Sysname[:]) + " " + release()}
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// capabilities that the gateway uses, by bit.
var capabilities = []struct {
	bit    int
	name   string
	needed bool
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", true},
	{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", true},
	{unix.CAP_BPF, "CAP_BPF", false},
	{unix.CAP_PERFMON, "CAP_PERFMON", false}, // the verifier wants it for packets' pointers
}

func privileges() Check {
	c := Check{Name: "capabilities"}
	effective, err := effectiveCapabilities()
	if err != nil {
		c.State, c.Found = Warn, err.Error()
		return c
	}
	var have, missing []string
	c.State = OK
	for _, k := range capabilities {
		switch {
		case effective&(1<<k.bit) != 0:
			have = append(have, k.name)
		case k.needed:
			missing, c.State = append(missing, k.name), Fail
		default:
			missing = append(missing, k.name)
		}
	}
	c.Found = "has " + list(have) + "; lacks " + list(missing)
	if c.State == Fail {
		c.Means, c.Do = "this user can't run the gateway", "be root, or grant them, as gatewayd.service does"
	}
	return c
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capget: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

func tunDevice() Check {
	c := Check{Name: "TUN device", State: Fail, Do: "modprobe tun, or let the container have /dev/net/tun"}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		c.Found, c.Means = "/dev/net/tun: "+err.Error(), "no userspace data plane"
		return c
	}
	defer unix.Close(fd)
	features, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	if err != nil {
		c.Found = "TUNGETFEATURES: " + err.Error()
		return c
	}
	if features&unix.IFF_VNET_HDR == 0 {
		c.Found, c.Means = "without IFF_VNET_HDR", "no segmentation offload, which the data plane counts on"
		return c
	}
	c.State, c.Found, c.Means, c.Do = OK, "with IFF_VNET_HDR", "userspace data plane", ""
	if features&unix.IFF_MULTI_QUEUE != 0 {
		c.Found += ", IFF_MULTI_QUEUE"
	}
	return c
}

// kernelESP reads what the kernel is made of instead of trying, which could
// load modules.
func kernelESP() Check {
	c := Check{Name: "kernel IPsec", State: Info, Means: "userspace data plane"}
	esp := symbol("esp_init_state")
	switch {
	case esp:
		c.Found = "ESP is in the kernel"
	case moduleKnown("esp4"):
		c.Found = "ESP is a module (esp4) that isn't loaded"
	case moduleKnown("xfrm_user") || symbol("xfrm_user_net_init"):
		c.Found = "XFRM without ESP"
	default:
		c.Found = "none"
	}
	return c
}

// symbol of the kernel or of a loaded module. Addresses are hidden from users,
// names aren't.
func symbol(name string) bool {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 3 && fields[2] == name {
			return true
		}
	}
	return false
}

// moduleKnown: it is built in or can be loaded.
func moduleKnown(name string) bool {
	for _, index := range []string{"modules.builtin", "modules.dep"} {
		text, err := os.ReadFile(filepath.Join("/lib/modules", release(), index))
		if err == nil && strings.Contains(string(text), "/"+name+".ko") {
			return true
		}
	}
	return false
}

// bpf loads the shortest program there is, and lets it go.
func bpf() Check {
	c := Check{Name: "BPF", State: Info, Means: "for gateway.guard"}
	// r0 = 0; exit
	program := [2][8]byte{{0xb7}, {0x95}}
	license := []byte("GPL\x00")
	attr := struct {
		kind, count    uint32
		insns, license uint64
		rest           [104]byte
	}{kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, count: uint32(len(program)),
		insns: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	switch {
	case errno == 0:
		unix.Close(int(fd))
		c.Found = "programs load"
		if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err == nil {
			c.Found += ", BTF"
		}
	case errors.Is(errno, unix.EPERM):
		c.Found = "not for this user"
	default:
		c.Found = "none: " + errno.Error()
	}
	return c
}
