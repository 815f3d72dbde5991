package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/bpf/access"
	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/layered"
	"github.com/roamgate/roamgate/dataplane/nft"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// pinFolder of BPF links, on hosts that have mounted a bpffs there.
const pinFolder = "/sys/fs/bpf/gatewayd"

// enforcer keeps access lists on the interface to the devices.
type enforcer interface {
	layered.Enforcer
	SetGroups([]acl.Group) error
	Counters() (acl.Counters, error)
	Close() error
}

var (
	_ enforcer = (*access.Access)(nil)
	_ enforcer = (*nft.Access)(nil)
	_ enforcer = (*unenforced)(nil)
)

// enforced is what keeps the access lists, and how.
type enforced struct {
	enforcer
	name string // "BPF (tcx)", "nftables", "none"
	// bindsSources: it checks by the SPI that a packet comes from the device whose
	// address it bears.
	bindsSources bool
	logger       *slog.Logger
}

// openAccess puts the groups in force on an interface. decrypted: packets come
// onto it out of IPsec of the kernel, which doesn't compare their source with the
// device's addresses.
func openAccess(cfg *config.Config, ifname string, groups []acl.Group, decrypted bool, logger *slog.Logger) (*enforced, error) {
	pins, err := accessPins(ifname)
	if err != nil {
		return nil, err
	}
	sessions := cfg.Gateway.Limits.Sessions
	devices := min(sessions+sessions/4+64, access.MaxDevices)
	l := &enforced{logger: logger}
	var why []error
	if cfg.Gateway.Access.Enforce != config.EnforceNFTables {
		l.enforcer, l.name, err = byBPF(ifname, pins, devices, decrypted, groups)
		if err == nil {
			l.bindsSources = decrypted
			return l, nft.Clear(ifname)
		}
		why = append(why, err)
	}
	if err := access.Clear(pins); err != nil {
		return nil, fmt.Errorf("access lists of an earlier run: %w", err)
	}
	needed := slices.ContainsFunc(groups, func(g acl.Group) bool { return g.List != nil })
	if cfg.Gateway.Access.Enforce == config.EnforceNFTables || cfg.Gateway.Access.Enforce == config.EnforceAuto && needed {
		l.enforcer, l.name, err = byNFTables(ifname, devices, groups)
		if err == nil {
			if slices.ContainsFunc(groups, limited) {
				logger.Warn("rates of groups are not enforced: they need BPF", slog.Any("error", errors.Join(why...)))
			}
			return l, nil
		}
		why = append(why, err)
	} else if err := nft.Clear(ifname); err != nil {
		return nil, fmt.Errorf("access lists of an earlier run: %w", err)
	}
	l.enforcer, l.name = newUnenforced(groups, l.fallBack(cfg, ifname, devices)), "none"
	level := slog.LevelInfo
	if needed {
		level = slog.LevelWarn
	}
	logger.Log(context.Background(), level, "nothing enforces access lists; devices of groups that have one are refused", slog.Any("error", errors.Join(why...)))
	return l, nil
}

// fallBack opens what may enforce lists that come by a reload; nil: nothing may.
func (l *enforced) fallBack(cfg *config.Config, ifname string, devices int) func([]acl.Group) (enforcer, error) {
	if cfg.Gateway.Access.Enforce == config.EnforceBPF {
		return nil
	}
	return func(groups []acl.Group) (enforcer, error) {
		e, _, err := byNFTables(ifname, devices, groups)
		if err == nil {
			l.logger.Info("access lists came by a reload: nftables enforces them")
		}
		return e, err
	}
}

func limited(g acl.Group) bool { return g.Device.Limited() || g.Total.Limited() }

// accessPins is a folder of this network namespace and interface.
func accessPins(ifname string) (string, error) {
	ns, err := os.Readlink("/proc/self/ns/net") // net:[4026531840]
	if err != nil {
		return "", err
	}
	return filepath.Join(pinFolder, "access-"+strings.Trim(strings.TrimPrefix(ns, "net:"), "[]")+"-"+ifname), nil
}

func byBPF(ifname, pins string, devices int, decrypted bool, groups []acl.Group) (enforcer, string, error) {
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, "", err
	}
	a, err := access.Open(access.Config{Interface: i.Index, MaxDevices: devices, BindSA: decrypted, Pins: pins})
	if err != nil {
		return nil, "", err
	}
	if err := a.SetGroups(groups); err != nil {
		return nil, "", errors.Join(err, a.Close())
	}
	if err := a.Attach(); err != nil {
		return nil, "", errors.Join(err, a.Close())
	}
	return a, "BPF (" + a.Attached() + ")", nil
}

func byNFTables(ifname string, devices int, groups []acl.Group) (enforcer, string, error) {
	a, err := nft.Open(nft.Config{Interface: ifname, MaxDevices: devices})
	if err != nil {
		return nil, "", err
	}
	if err := a.SetGroups(groups); err != nil {
		return nil, "", errors.Join(err, a.Close())
	}
	return a, "nftables", nil
}

// layer that keeps the enforcer in step with the data plane.
func (l *enforced) layer() dataplane.Layer { return layered.Access(l.enforcer, l.logger) }

func (l *enforced) how() string {
	if u, ok := l.enforcer.(*unenforced); ok && u.enforced() {
		return "nftables"
	}
	return l.name
}

// counters of packets; without them, zeroes and a line in the log.
func (l *enforced) counters() acl.Counters {
	counters, err := l.Counters()
	if err != nil {
		l.logger.Warn("access lists: counters can't be read", slog.Any("error", err))
	}
	return counters
}

// alongside is groups, and those of before that are no longer among them, where
// there is room for both.
func alongside(groups, before []acl.Group) []acl.Group {
	all := slices.Clone(groups)
	for _, b := range before {
		if !slices.ContainsFunc(groups, func(g acl.Group) bool { return g.Name == b.Name }) {
			all = append(all, b)
		}
	}
	if len(all) > acl.MaxGroups {
		return groups
	}
	return all
}
