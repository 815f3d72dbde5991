package access

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// clsact is how kernels before 6.6 have programs on both directions of an
// interface: a qdisc that queues nothing, and a filter each way. The messages
// are those of rtnetlink(7), tc's part (uapi/linux/pkt_sched.h, pkt_cls.h).
type clsact struct {
	index int
	made  bool // the qdisc is ours
}

const (
	handleClsact  = 0xffff0000
	parentClsact  = 0xfffffff1
	parentIngress = 0xfffffff2
	parentEgress  = 0xfffffff3

	// Filters are known by their handle and priority, so that one of an earlier
	// run is replaced. The priority leaves room on both sides.
	filterHandle   = 1
	filterPriority = 0x6767

	tcaKind, tcaOptions            = 1, 2
	tcaBPFFD, tcaBPFName, tcaFlags = 6, 7, 8
	flagDirectAction               = 1
)

// filterInfo: the priority, and the Ethernet type of all packets in network
// byte order.
const filterInfo = filterPriority<<16 | uint32(unix.ETH_P_ALL&0xff)<<8 | unix.ETH_P_ALL>>8

func attachClsact(index int, in, out *ebpf.Program) (*clsact, error) {
	c := &clsact{index: index}
	kind := attribute(nil, tcaKind, []byte("clsact\x00"))
	err := c.request(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, handleClsact, parentClsact, 0, kind)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("clsact qdisc: %w", err)
	}
	c.made = err == nil
	for _, f := range []struct {
		parent  uint32
		program *ebpf.Program
		name    string
	}{{parentIngress, in, pins[0]}, {parentEgress, out, pins[1]}} {
		options := attribute(nil, tcaBPFFD, binary.NativeEndian.AppendUint32(nil, uint32(f.program.FD())))
		options = attribute(options, tcaBPFName, append([]byte(f.name), 0))
		options = attribute(options, tcaFlags, binary.NativeEndian.AppendUint32(nil, flagDirectAction))
		body := attribute(attribute(nil, tcaKind, []byte("bpf\x00")), tcaOptions|unix.NLA_F_NESTED, options)
		if err := c.request(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, filterHandle, f.parent, filterInfo, body); err != nil {
			return nil, errors.Join(fmt.Errorf("filter %s: %w", f.name, err), c.detach())
		}
	}
	return c, nil
}

// detach takes the filters, and with them the qdisc if it is ours. What is gone
// already, with its interface for one, is no error.
func (c *clsact) detach() error {
	var errs []error
	kind := attribute(nil, tcaKind, []byte("bpf\x00"))
	for _, parent := range []uint32{parentIngress, parentEgress} {
		errs = append(errs, c.request(unix.RTM_DELTFILTER, 0, filterHandle, parent, filterInfo, kind))
	}
	if c.made {
		errs = append(errs, c.request(unix.RTM_DELQDISC, 0, handleClsact, parentClsact, 0, attribute(nil, tcaKind, []byte("clsact\x00"))))
	}
	var left []error
	for _, err := range errs {
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
			left = append(left, err)
		}
	}
	return errors.Join(left...)
}

// attribute appends a netlink attribute.
func attribute(to []byte, kind uint16, value []byte) []byte {
	to = binary.NativeEndian.AppendUint16(to, uint16(unix.SizeofNlAttr+len(value)))
	to = append(binary.NativeEndian.AppendUint16(to, kind), value...)
	for len(to)%unix.NLA_ALIGNTO != 0 {
		to = append(to, 0)
	}
	return to
}

// request sends one message about the interface and waits for its answer.
func (c *clsact) request(kind, flags uint16, handle, parent, info uint32, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const headers = unix.NLMSG_HDRLEN + 20 // struct tcmsg
	m := make([]byte, headers, headers+len(body))
	binary.NativeEndian.PutUint32(m, uint32(headers+len(body)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	binary.NativeEndian.PutUint32(m[20:], uint32(c.index))
	binary.NativeEndian.PutUint32(m[24:], handle)
	binary.NativeEndian.PutUint32(m[28:], parent)
	binary.NativeEndian.PutUint32(m[32:], info)
	if err := unix.Sendto(fd, append(m, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("netlink: not an answer")
	}
	if code := -int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(code)
	}
	return nil
}
