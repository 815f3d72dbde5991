package xfrm

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interface is an xfrm interface that this process has made.
type Interface struct {
	name  string
	index int
}

// CreateInterface makes an xfrm interface with that ID, down; mtu 0 leaves the
// kernel's default of 1,500. An interface of that name and ID is what an earlier
// run left, and is replaced.
func CreateInterface(name string, ifID uint32, mtu int) (*Interface, error) {
	link := &netlink.Xfrmi{LinkAttrs: netlink.NewLinkAttrs(), Ifid: ifID}
	link.Name, link.MTU = name, mtu
	if err := removeLeft(name, ifID); err != nil {
		return nil, err
	}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("xfrm interface %q: %w", name, err)
	}
	return &Interface{link.Name, link.Index}, nil
}

func removeLeft(name string, ifID uint32) error {
	old, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %q: %w", name, err)
	}
	if x, ok := old.(*netlink.Xfrmi); !ok || x.Ifid != ifID {
		return fmt.Errorf("xfrm interface %q: %w", name, unix.EEXIST)
	}
	return netlink.LinkDel(old)
}

// Name of the interface.
func (i *Interface) Name() string { return i.name }

// Close removes it, if nobody else has.
func (i *Interface) Close() error {
	l, err := netlink.LinkByIndex(i.index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil {
		return fmt.Errorf("remove xfrm interface %q: %w", i.name, err)
	}
	return nil
}
