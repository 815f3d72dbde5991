package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctlRoot shows the network namespace of the thread that opens a file below
// it, not that of the process.
const sysctlRoot = "/proc/sys"

// setting is a sysctl and the value it should have.
type setting struct{ path, value string }

// conf is the path of a sysctl of one interface. Interface names have no slash.
func conf(family, name, key string) string {
	return "net/" + family + "/conf/" + name + "/" + key
}

func readSysctl(path string) (string, error) {
	return readSetting(filepath.Join(sysctlRoot, path))
}

func writeSysctl(path, value string) error {
	return writeSetting(filepath.Join(sysctlRoot, path), value)
}

// readSetting reads a file of the kernel that holds one value.
func readSetting(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("kernel setting: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeSetting(file, value string) error {
	// Without O_CREATE: a missing file is an error, not a new file.
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("kernel setting: %w", err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("kernel setting %s=%s: %w", file, value, err)
	}
	return nil
}

// planSettings lists the changes that settings ask for. A setting that turns
// IPv6 off is left out where there is no IPv6.
func planSettings(settings []setting) ([]change, error) {
	var changes []change
	for _, s := range settings {
		old, err := readSysctl(s.path)
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(s.path, "/disable_ipv6") {
			continue
		}
		if err != nil {
			return nil, err
		}
		if old != s.value {
			changes = append(changes, change{Kind: kindSysctl, Path: s.path, Old: old, New: s.value})
		}
	}
	return changes, nil
}

// HasIPv6 says whether this host has IPv6 at all.
func HasIPv6() bool {
	_, err := os.Stat(filepath.Join(sysctlRoot, "net/ipv6/conf"))
	return err == nil
}

// planForwarding6 lists the changes that turn IPv6 forwarding on, which the
// kernel has for all interfaces or for none. Turning it on makes the kernel
// forget its default routers and ignore router advertisements, unless accept_ra
// is 2; turning it off again sets every interface to 0.
//
// TUN is left out: a router advertisement from a device is nothing to obey.
func planForwarding6(tun string) ([]change, error) {
	all := conf("ipv6", "all", "forwarding")
	old, err := readSysctl(all)
	if err != nil {
		return nil, err
	}
	if old == "1" {
		return nil, nil
	}
	names, err := os.ReadDir(filepath.Join(sysctlRoot, "net/ipv6/conf"))
	if err != nil {
		return nil, fmt.Errorf("sysctl: %w", err)
	}
	var changes []change
	cascade := map[string]string{}
	for _, entry := range names {
		name := entry.Name()
		if name == "all" || name == tun {
			continue
		}
		forwarding, err1 := readSysctl(conf("ipv6", name, "forwarding"))
		acceptRA, err2 := readSysctl(conf("ipv6", name, "accept_ra"))
		if err := errors.Join(err1, err2); errors.Is(err, fs.ErrNotExist) {
			continue // went away just now
		} else if err != nil {
			return nil, err
		}
		if forwarding != old {
			cascade[conf("ipv6", name, "forwarding")] = forwarding
		}
		if name != "default" && acceptRA == "1" {
			changes = append(changes, change{Kind: kindSysctl, Path: conf("ipv6", name, "accept_ra"), Old: "1", New: "2"})
		}
	}
	return append(changes, change{Kind: kindSysctl, Path: all, Old: old, New: "1", Cascade: cascade}), nil
}

// takeBackSysctl sets the old value if the one that was set still stands;
// another was set by somebody else, or the change was not made.
func (c change) takeBackSysctl() error {
	now, err := readSysctl(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the interface is gone
	}
	if err != nil || now != c.New {
		return err
	}
	errs := []error{writeSysctl(c.Path, c.Old)}
	for path, value := range c.Cascade {
		if err := writeSysctl(path, value); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
