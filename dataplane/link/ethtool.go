package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of SIOCETHTOOL (include/uapi/linux/ethtool.h) and the string set of
// features.
const (
	ethtoolStringSetInfo = 0x37
	ethtoolStrings       = 0x1b
	ethtoolGetFeatures   = 0x3a
	ethtoolSetFeatures   = 0x3b
	stringSetFeatures    = 4
	ethtoolNameLen       = 32
)

// ethtool carries out one command on an interface; b is the command's struct in
// host order, the answer comes in it.
func ethtool(name string, b []byte) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	// struct ifreq with a pointer in it, which package unix has no call for.
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		rest [16]byte
	}
	if len(name) >= len(request.name) {
		return unix.EINVAL
	}
	copy(request.name[:], name)
	request.data = unsafe.Pointer(unsafe.SliceData(b))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// featureBit finds a feature by its name in `ethtool -k`, among how many.
func featureBit(iface, feature string) (bit, count int, err error) {
	info := make([]byte, 20)
	binary.NativeEndian.PutUint32(info, ethtoolStringSetInfo)
	binary.NativeEndian.PutUint64(info[8:], 1<<stringSetFeatures)
	if err := ethtool(iface, info); err != nil {
		return 0, 0, fmt.Errorf("features of %s: %w", iface, err)
	}
	count = int(binary.NativeEndian.Uint32(info[16:]))
	names := make([]byte, 12+count*ethtoolNameLen)
	binary.NativeEndian.PutUint32(names, ethtoolStrings)
	binary.NativeEndian.PutUint32(names[4:], stringSetFeatures)
	binary.NativeEndian.PutUint32(names[8:], uint32(count))
	if err := ethtool(iface, names); err != nil {
		return 0, 0, fmt.Errorf("features of %s: %w", iface, err)
	}
	for bit := range count {
		name, _, _ := bytes.Cut(names[12+bit*ethtoolNameLen:][:ethtoolNameLen], []byte{0})
		if string(name) == feature {
			return bit, count, nil
		}
	}
	return 0, 0, fmt.Errorf("feature %s of %s: %w", feature, iface, unix.EOPNOTSUPP)
}

// readFeature says whether a feature of an interface is on.
func readFeature(iface, feature string) (on bool, err error) {
	bit, count, err := featureBit(iface, feature)
	if err != nil {
		return false, err
	}
	blocks := (count + 31) / 32
	// Each block: available, requested, active, never changed.
	b := make([]byte, 8+16*blocks)
	binary.NativeEndian.PutUint32(b, ethtoolGetFeatures)
	binary.NativeEndian.PutUint32(b[4:], uint32(blocks))
	if err := ethtool(iface, b); err != nil {
		return false, fmt.Errorf("feature %s of %s: %w", feature, iface, err)
	}
	active := binary.NativeEndian.Uint32(b[8+16*(bit/32)+8:])
	return active>>(bit%32)&1 != 0, nil
}

// writeFeature turns a feature on or off.
func writeFeature(iface, feature string, on bool) error {
	bit, count, err := featureBit(iface, feature)
	if err != nil {
		return err
	}
	blocks := (count + 31) / 32
	// Each block: valid, requested.
	b := make([]byte, 8+8*blocks)
	binary.NativeEndian.PutUint32(b, ethtoolSetFeatures)
	binary.NativeEndian.PutUint32(b[4:], uint32(blocks))
	block := b[8+8*(bit/32):]
	binary.NativeEndian.PutUint32(block, 1<<(bit%32))
	if on {
		binary.NativeEndian.PutUint32(block[4:], 1<<(bit%32))
	}
	if err := ethtool(iface, b); err != nil {
		return fmt.Errorf("feature %s of %s: %w", feature, iface, err)
	}
	return nil
}
