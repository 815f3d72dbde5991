package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Displace takes the guard of a former daemon off an interface of this thread's
// network namespace, wherever its link is pinned: nobody tells it SPIs any more.
// It is known by its program, and by the maps and one of locals in them, so that a
// guard for other addresses stays. It says whether there was one. Looking at links
// of others takes CAP_SYS_ADMIN: without it the error is fs.ErrPermission, wrapped.
func Displace(index int, locals []netip.Addr) (bool, error) {
	// Links are those of all namespaces, and tell an interface's number only: the
	// one that is meant has the program that the interface itself names.
	held, err := programsOn(index)
	if err != nil || len(held) == 0 {
		return false, err
	}
	found := false
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		if !linkedTo(links.Link, index) || !guards(links.Link, held, locals) {
			continue
		}
		if err := links.Link.Detach(); err != nil {
			return found, fmt.Errorf("%w: a former guard is on interface %d: %w", ErrAttach, index, err)
		}
		found = true
	}
	if err := links.Err(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return found, fmt.Errorf("links of the kernel: %w", err)
	}
	return found, nil
}

// Attributes of an interface about XDP (linux/if_link.h).
const (
	attributeXDP = 43
	// The program in the one mode there is, or in each of several.
	xdpProgram, xdpHardwareProgram = 4, 7
)

// programsOn are the IDs of the XDP programs on an interface of this thread's
// network namespace.
func programsOn(index int) ([]ebpf.ProgramID, error) {
	table, err := syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", os.NewSyscallError("netlink", err))
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	var ids []ebpf.ProgramID
	for i := range messages {
		m := &messages[i]
		// The index is behind family and type (struct ifinfomsg).
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < syscall.SizeofIfInfomsg ||
			int(int32(binary.NativeEndian.Uint32(m.Data[4:]))) != index {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, fmt.Errorf("interface %d: %w", index, err)
		}
		for _, a := range attributes {
			if a.Attr.Type&^unix.NLA_F_NESTED == attributeXDP {
				ids = append(ids, programsOf(a.Value)...)
			}
		}
	}
	return ids, nil
}

// programsOf reads the attributes inside that of XDP.
func programsOf(nested []byte) (ids []ebpf.ProgramID) {
	for len(nested) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(nested))
		kind := binary.NativeEndian.Uint16(nested[2:])
		if n < unix.SizeofRtAttr || n > len(nested) {
			break
		}
		if kind >= xdpProgram && kind <= xdpHardwareProgram && n >= unix.SizeofRtAttr+4 {
			ids = append(ids, ebpf.ProgramID(binary.NativeEndian.Uint32(nested[unix.SizeofRtAttr:])))
		}
		nested = nested[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(nested)):]
	}
	return ids
}

// guards: the program of a link is one of those held, and a guard of one of the
// addresses. A link that went meanwhile isn't.
func guards(l link.Link, held []ebpf.ProgramID, locals []netip.Addr) bool {
	info, err := l.Info()
	if err != nil || !slices.Contains(held, info.Program) {
		return false
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return false
	}
	defer program.Close()
	about, err := program.Info()
	if err != nil || about.Name != programProgGuard {
		return false
	}
	ids, _ := about.MapIDs()
	spis, ours := false, false
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return false
		}
		switch about, err := m.Info(); {
		case err != nil:
		case about.Name == programMapSpis:
			spis = true
		case about.Name == programMapLocals:
			ours = keeps(m, locals)
		}
		_ = m.Close()
	}
	return spis && ours
}

// keeps: one of the addresses is in a map of them.
func keeps(m *ebpf.Map, locals []netip.Addr) bool {
	for _, a := range locals {
		var one uint32
		if m.Lookup(address(a), &one) == nil {
			return true
		}
	}
	return false
}
