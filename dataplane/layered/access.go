package layered

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/dataplane"
)

// Enforcer keeps access lists on the interface to the devices, such as BPF or
// nftables. SPIs are inbound ones.
type Enforcer interface {
	// Add devices; an error for each. ErrGroup and ErrFull of package acl.
	Add(devices []acl.Device) []error
	// Regroup one that is there, from its next packet on.
	Regroup(spi uint32, group string) error
	// Remove those that are there.
	Remove(spis []uint32) error
}

// access is an enforcer as a layer.
type access struct {
	lists  Enforcer
	logger *slog.Logger
}

// Access makes an enforcer a layer, which admits children of groups that are in
// force. Errors of Admit and Regroup: dataplane.ErrGroup, dataplane.ErrFull, those
// of the enforcer. That a child can't be forgotten is logged: nobody could do
// anything about it.
func Access(e Enforcer, logger *slog.Logger) dataplane.Layer { return &access{e, logger} }

func (l *access) Admit(children []*dataplane.Child) []error {
	devices := make([]acl.Device, len(children))
	for i, c := range children {
		devices[i] = acl.Device{SPI: uint32(c.Inbound.SPI), Addresses: c.VirtualIPs, Group: c.Group}
	}
	errs := l.lists.Add(devices)
	for i, err := range errs {
		errs[i] = accessError(err)
	}
	return errs
}

func (l *access) Regroup(inbound dataplane.SPI, group string) error {
	return accessError(l.lists.Regroup(uint32(inbound), group))
}

func (l *access) Forget(inbound []dataplane.SPI) {
	spis := make([]uint32, len(inbound))
	for i, spi := range inbound {
		spis[i] = uint32(spi)
	}
	if err := l.lists.Remove(spis); err != nil {
		l.logger.Error("access lists: devices that are gone can't be forgotten", slog.Any("error", err))
	}
}

// accessError is an error in the data plane's terms.
func accessError(err error) error {
	switch {
	case errors.Is(err, acl.ErrGroup):
		return fmt.Errorf("%w: %w", dataplane.ErrGroup, err)
	case errors.Is(err, acl.ErrFull):
		return fmt.Errorf("%w: %w", dataplane.ErrFull, err)
	}
	return err
}
