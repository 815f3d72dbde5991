package link

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

/* Receiving in bundles
 *
 * Clients send datagrams one by one. For them to come out of the socket in
 * bundles the kernel has to put them together (rx-udp-gro-forwarding) and to wait
 * a moment for more of them (gro_flush_timeout, nanoseconds, with
 * napi_defer_hard_irqs polls before interrupts are allowed again). It costs that
 * moment in latency.
 */
const (
	groFeature = "rx-udp-gro-forwarding"
	groTimeout = "gro_flush_timeout"
	groDefer   = "napi_defer_hard_irqs"
)

var groSettings = []struct{ attribute, value string }{{groTimeout, "50000"}, {groDefer, "2"}}

// sysfsRoot shows the network namespace in which it was mounted.
const sysfsRoot = "/sys/class/net"

// GRO says how an interface puts datagrams together.
type GRO struct {
	// Forwarding: it does so for datagrams that nobody marked as belonging together.
	Forwarding bool
	// FlushTimeout in nanoseconds and DeferHardIRQs as the kernel shows them.
	FlushTimeout, DeferHardIRQs string
}

// ReadGRO looks at an interface.
func ReadGRO(iface string) (g GRO, err error) {
	if g.Forwarding, err = readFeature(iface, groFeature); err != nil {
		return GRO{}, err
	}
	if g.FlushTimeout, err = readSysfs(iface, groTimeout); err != nil {
		return GRO{}, err
	}
	g.DeferHardIRQs, err = readSysfs(iface, groDefer)
	return g, err
}

func readSysfs(iface, attribute string) (string, error) {
	return readSetting(filepath.Join(sysfsRoot, iface, attribute))
}

func writeSysfs(iface, attribute, value string) error {
	return writeSetting(filepath.Join(sysfsRoot, iface, attribute), value)
}

// planGRO lists the changes that receiving in bundles takes.
func planGRO(iface string) ([]change, error) {
	var changes []change
	for _, s := range groSettings {
		old, err := readSysfs(iface, s.attribute)
		if err != nil {
			return nil, err
		}
		if old != s.value {
			changes = append(changes, change{Kind: kindSysfs, Path: iface + "/" + s.attribute, Old: old, New: s.value})
		}
	}
	on, err := readFeature(iface, groFeature)
	if err != nil {
		return nil, err
	}
	if !on {
		changes = append(changes, change{Kind: kindFeature, Path: iface + "/" + groFeature, Old: "off", New: "on"})
	}
	return changes, nil
}

// validInterfacePath: a journal can't lead anywhere else.
func validInterfacePath(path string) bool {
	iface, name, ok := strings.Cut(path, "/")
	return ok && iface != "" && iface != "." && iface != ".." && !strings.Contains(name, "/") &&
		(name == groFeature || name == groTimeout || name == groDefer)
}

func (c change) applyInterface(value string) error {
	iface, name, _ := strings.Cut(c.Path, "/")
	if c.Kind == kindFeature {
		return writeFeature(iface, name, value == "on")
	}
	return writeSysfs(iface, name, value)
}

// takeBackInterface sets the old value if the one that was set still stands.
func (c change) takeBackInterface() error {
	iface, name, _ := strings.Cut(c.Path, "/")
	var now string
	var err error
	if c.Kind == kindFeature {
		var on bool
		if on, err = readFeature(iface, name); on {
			now = "on"
		}
	} else {
		now, err = readSysfs(iface, name)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil // the interface is gone
	}
	if err != nil || now != c.New {
		return err
	}
	return c.applyInterface(c.Old)
}
