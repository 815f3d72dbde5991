// Package pushed says what the documents of a manager (package gcm) mean to a
// gateway: access lists, pools and settings in the terms of its configuration
// file, devices as those who are on a roll, ticket keys as a set of keys.
//
// What doesn't live here: how documents come and are kept (package agent), and
// how they are put into force.
package pushed

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/ticket"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// Take one section into what was pushed: access, addresses or settings. gateway
// is our name among others. What is wrong with it is all told; then the section
// is not to be taken.
func Take(p *config.Pushed, gateway string, set *gcm.Set) []error {
	var errs []error
	switch set.Section() {
	case gcm.Access:
		p.Groups, errs = groups(set)
	case gcm.Addresses:
		p.Pools, p.Neighbours, p.Exclude, errs = addresses(gateway, set)
	case gcm.Settings:
		p.Settings = settings(gateway, set)
	case gcm.Trust:
		p.Roots, p.Intermediates, errs = authorities(set)
	case gcm.Devices, gcm.Tickets:
	}
	return errs
}

// each record of a set, decoded, by key. They were decoded before they got into
// a set.
func each[T any](set *gcm.Set, do func(T)) {
	records := slices.SortedFunc(set.All(), func(a, b gcm.Record) int { return bytes.Compare(a.Key, b.Key) })
	for _, r := range records {
		typed, err := gcm.Decode(set.Section(), r)
		if err != nil {
			panic(err)
		}
		if v, ok := typed.(T); ok {
			do(v)
		}
	}
}

func groups(set *gcm.Set) (list []config.Group, errs []error) {
	each(set, func(g gcm.AccessGroup) {
		group := config.Group{Name: g.Name}
		for n, text := range g.Rules {
			var rule config.AccessRule
			if err := rule.UnmarshalText([]byte(text)); err != nil {
				errs = append(errs, fmt.Errorf("group %s, rule %d: %w", g.Name, n+1, err))
				continue
			}
			group.Rules = append(group.Rules, rule)
		}
		if len(g.Rules) == 0 && g.Closed {
			group.Rules = config.Closed()
		}
		var err error
		if group.DeviceRate, err = rate(g.DeviceRate); err != nil {
			errs = append(errs, fmt.Errorf("group %s, device rate: %w", g.Name, err))
		}
		if group.GroupRate, err = rate(g.GroupRate); err != nil {
			errs = append(errs, fmt.Errorf("group %s, group rate: %w", g.Name, err))
		}
		list = append(list, group)
	})
	return list, errs
}

var errRate = errors.New("out of range")

// rate in octets a second.
func rate(octets uint64) (config.BitRate, error) {
	if octets != 0 && (octets < acl.MinRate || octets > acl.MaxRate) {
		return 0, fmt.Errorf("%w: got %d octets a second, expected 0 or %d to %d", errRate, octets, uint64(acl.MinRate), uint64(acl.MaxRate))
	}
	return config.BitRate(octets * 8), nil
}

func addresses(gateway string, set *gcm.Set) (own, neighbours []netip.Prefix, exclude []netip.Addr, errs []error) {
	var all []netip.Prefix
	each(set, func(p gcm.Pool) {
		for _, other := range all {
			if p.Prefix.Overlaps(other) {
				errs = append(errs, fmt.Errorf("pool %v overlaps %v", p.Prefix, other))
			}
		}
		all = append(all, p.Prefix)
		if p.Gateway == gateway {
			own = append(own, p.Prefix)
		} else {
			neighbours = append(neighbours, p.Prefix)
		}
	})
	each(set, func(a netip.Addr) { exclude = append(exclude, a) })
	return own, neighbours, exclude, errs
}

// settings of which NAME@GATEWAY counts there in place of NAME, shorter names
// first, so that one inside another wins.
func settings(gateway string, set *gcm.Set) (list []config.Setting) {
	byName := map[string]config.Setting{}
	each(set, func(s gcm.Setting) {
		name, at, some := strings.Cut(s.Name, "@")
		if some && at != gateway {
			return
		}
		if _, ok := byName[name]; !ok || some {
			byName[name] = config.Setting{Name: name, Value: s.Value}
		}
	})
	for _, s := range byName {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b config.Setting) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// authorities whose devices get in. What can't be one is left out, and told.
func authorities(set *gcm.Set) (roots, below []*x509.Certificate, errs []error) {
	each(set, func(a gcm.Authority) {
		c, err := x509.ParseCertificate(a.DER)
		if err == nil {
			// What a policy wouldn't take as a root is no CA.
			_, err = admit.New(admit.Config{Roots: []*x509.Certificate{c}})
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("certificate %x: %w", sha256.Sum256(a.DER), err))
		case a.Root:
			roots = append(roots, c)
		default:
			below = append(below, c)
		}
	})
	if len(roots) == 0 && set.Len() > 0 {
		errs = append(errs, errors.New("certificates and no root among them"))
	}
	return roots, below, errs
}

// ErrNoKey: a section of tickets without one that seals now.
var ErrNoKey = errors.New("no ticket key that is in use by now")

// Keys of the section of tickets, to be erased. Each opens for keep after the
// next one has begun. Error: ErrNoKey.
func Keys(set *gcm.Set, now time.Time, keep time.Duration) (ticket.Keys, error) {
	var keys ticket.Keys
	each(set, func(k gcm.TicketKey) {
		keys = append(keys, ticket.Key{ID: k.ID, From: k.From, Keep: keep.Truncate(time.Second), Secret: k.Secret})
		clear(k.Secret[:])
	})
	slices.SortFunc(keys, func(a, b ticket.Key) int {
		return cmp.Or(a.From.Compare(b.From), bytes.Compare(a.ID[:], b.ID[:]))
	})
	if len(keys) == 0 || keys[0].From.After(now) {
		keys.Erase()
		return nil, ErrNoKey
	}
	return keys, nil
}
