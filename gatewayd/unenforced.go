package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/roamgate/roamgate/bpf/acl"
)

// errUnenforced: a reload brings a list for devices that are connected, and
// nothing can hold them to it.
var errUnenforced = errors.New("nothing enforces access lists: neither BPF nor nftables can be had (gateway.access.enforce), and devices are connected")

// unenforced takes devices of groups that need no list. When a reload brings
// lists it hands all devices to another enforcer, if there is one.
type unenforced struct {
	fallBack func([]acl.Group) (enforcer, error) // nil: there is none

	mu      sync.Mutex // a reload meets the data plane
	groups  []acl.Group
	open    map[string]bool
	devices map[uint32]acl.Device
	next    enforcer // has taken over
}

func newUnenforced(groups []acl.Group, fallBack func([]acl.Group) (enforcer, error)) *unenforced {
	u := &unenforced{fallBack: fallBack, devices: make(map[uint32]acl.Device)}
	u.use(groups)
	return u
}

func (u *unenforced) use(groups []acl.Group) {
	u.groups, u.open = groups, make(map[string]bool, len(groups))
	for _, g := range groups {
		u.open[g.Name] = g.List == nil
	}
}

// SetGroups with a list for a group that has devices is refused where nothing
// enforces it. Errors: errUnenforced, wrapped.
func (u *unenforced) SetGroups(groups []acl.Group) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next != nil {
		return u.next.SetGroups(groups)
	}
	listed := make(map[string]bool, len(groups))
	for _, g := range groups {
		if g.List != nil {
			listed[g.Name] = true
		}
	}
	var err error
	if len(listed) > 0 && u.fallBack != nil {
		if err = u.handOver(groups); err == nil {
			return nil
		}
	}
	for _, d := range u.devices {
		if listed[d.Group] {
			return errors.Join(fmt.Errorf("%w in group %q", errUnenforced, d.Group), err)
		}
	}
	u.use(groups)
	return nil
}

// handOver has devices known in the groups that they are in before these change,
// so that groups which go stay in force for them.
func (u *unenforced) handOver(groups []acl.Group) error {
	next, err := u.fallBack(u.groups)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range u.devices {
		if !slices.ContainsFunc(u.groups, func(g acl.Group) bool { return g.Name == d.Group }) {
			errs = append(errs, fmt.Errorf("%w: %q is gone and has devices", acl.ErrGroup, d.Group))
			continue
		}
		errs = append(errs, next.Add([]acl.Device{d})...)
	}
	errs = append(errs, next.SetGroups(groups))
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, next.Close())
	}
	u.next, u.devices = next, nil
	return nil
}

func (u *unenforced) enforced() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.next != nil
}

func (u *unenforced) Add(devices []acl.Device) []error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next != nil {
		return u.next.Add(devices)
	}
	errs := make([]error, len(devices))
	for i, d := range devices {
		if errs[i] = u.takes(d.Group); errs[i] == nil {
			u.devices[d.SPI] = d
		}
	}
	return errs
}

func (u *unenforced) takes(group string) error {
	if !u.open[group] {
		return fmt.Errorf("%w whose list is enforced: %q", acl.ErrGroup, group)
	}
	return nil
}

func (u *unenforced) Regroup(spi uint32, group string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next != nil {
		return u.next.Regroup(spi, group)
	}
	if err := u.takes(group); err != nil {
		return err
	}
	if d, known := u.devices[spi]; known {
		d.Group = group
		u.devices[spi] = d
	}
	return nil
}

func (u *unenforced) Remove(spis []uint32) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next != nil {
		return u.next.Remove(spis)
	}
	for _, spi := range spis {
		delete(u.devices, spi)
	}
	return nil
}

func (u *unenforced) Counters() (acl.Counters, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next != nil {
		return u.next.Counters()
	}
	return acl.Counters{}, nil
}

func (u *unenforced) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next != nil {
		return u.next.Close()
	}
	return nil
}
