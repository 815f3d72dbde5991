package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/roamgate/roamgate/bpf/guard"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// A guard that is pinned drops ESP of every SPI that nobody tells it. One of a
// former run must be replaced, or go: the file says where it was pinned, because
// gateway.guard.pins may have changed and looking for it in the kernel takes
// CAP_SYS_ADMIN.
func guardRecord(c *config.Config) string { return filepath.Join(c.Path(c.StateDir), "guard.pins") }

// recordedPins is the folder of the last guard that was pinned; empty: none.
func recordedPins(c *config.Config) (string, error) {
	b, err := os.ReadFile(guardRecord(c))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// clearElsewhere takes away the guard that a former run pinned in a folder that
// isn't this one's.
func clearElsewhere(c *config.Config, pins string) (bool, error) {
	recorded, err := recordedPins(c)
	if err != nil || recorded == "" || recorded == pins {
		return false, err
	}
	found, err := guard.Clear(recorded)
	if err != nil {
		return found, err
	}
	return found, os.Remove(guardRecord(c))
}

// clearGuard takes away what any former run left on the interface.
func clearGuard(c *config.Config, index int) (bool, error) {
	pins := guardPins(c, index)
	elsewhere, err := clearElsewhere(c, pins)
	if err != nil {
		return elsewhere, err
	}
	here, err := guard.Clear(pins)
	if err != nil {
		return elsewhere || here, err
	}
	held, err := guard.Displace(index, c.Gateway.External.Addresses())
	if errors.Is(err, fs.ErrPermission) {
		err = nil
		if l, linkErr := netlink.LinkByIndex(index); linkErr == nil && l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached {
			err = fmt.Errorf("%w: %d", errUnknownXDP, l.Attrs().Xdp.ProgId)
		}
	}
	return elsewhere || here || held, err
}

// errUnknownXDP: on the interface is a program that this user can't look at, and
// that no folder of ours holds.
var errUnknownXDP = errors.New("an XDP program that can't be looked at without CAP_SYS_ADMIN is on the interface")

// without a guard the gateway goes on only where none of a former run is left to
// drop its packets.
func (l *guardLayer) without(c *config.Config, index int) error {
	found, err := clearGuard(c, index)
	if found {
		l.logger.Info("guard of a former run taken away")
	}
	switch {
	case errors.Is(err, errUnknownXDP):
		l.why += "; " + err.Error()
		l.logger.Warn("guard is off, and another XDP program judges packets", slog.Any("error", err))
	case err != nil:
		return fmt.Errorf("the guard of a former run is in force and would drop ESP; take it away as root with `gatewayd guard remove`: %w", err)
	}
	return nil
}
