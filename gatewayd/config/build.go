package config

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// Built is what a Config means to the packages that do the work. All of it can
// be replaced by a reload.
type Built struct {
	IKE    *ike.Config
	Admit  *admit.Policy
	Assign ike.Settings
	Gate   gate.Config
	Idle   time.Duration
	Leases lease.Config
	// Warnings about what works today and won't forever, or not everywhere.
	Warnings []string
}

// Build reads the files that the configuration names. The error is of type
// Problems; now serves for warnings about validity.
func (c *Config) Build(now time.Time) (*Built, error) {
	b := &builder{Config: c, now: now}
	credentials := b.credentials()
	policy := b.policy()
	if err := b.problems.err(); err != nil {
		return nil, err
	}
	g := &c.Gateway
	built := &Built{
		Admit:    policy,
		Assign:   ike.Settings{DNS: g.Static.DNS, WINS: g.Static.WINS, Networks: g.Static.Networks},
		Idle:     time.Duration(g.IKE.Liveness.Idle),
		Leases:   lease.Config{Pools: g.Static.Pools, Exclude: g.Static.Exclude},
		Warnings: b.warnings,
		Gate: gate.Config{
			MaxHalfOpen:       g.Limits.HalfOpen.Max,
			CookieAt:          g.Limits.HalfOpen.CookieAt,
			MaxHalfOpenPrefix: g.Limits.HalfOpenPerPrefix.Max,
			CookieAtPrefix:    g.Limits.HalfOpenPerPrefix.CookieAt,
			AnswersPerSecond:  g.Limits.AnswersPerSecond,
		},
	}
	built.IKE = &ike.Config{
		ID:           Identification(g.Identity.ID),
		Credentials:  credentials,
		TrustAnchors: policy.Authorities(),
		// The userspace data plane has no raw ESP.
		ForceUDP:   true,
		HalfOpen:   time.Duration(g.IKE.HalfOpenTimeout),
		Retransmit: time.Duration(g.IKE.Retransmit.Timeout),
		Tries:      g.IKE.Retransmit.Tries,
		Soft:       g.ESP.Limits.Soft.limits(),
		Hard:       g.ESP.Limits.Hard.limits(),
		ExportKeys: c.Debug.KeyLog != "",
		Rand:       rand.Reader,
	}
	for _, p := range g.IKE.Proposals {
		built.IKE.Suites = append(built.IKE.Suites, p.Suite)
	}
	for _, p := range g.ESP.Proposals {
		built.IKE.ESP = append(built.IKE.ESP, p.Algorithm)
	}
	return built, nil
}

func (l Lifetime) limits() dataplane.Limits {
	return dataplane.Limits{Bytes: uint64(l.Bytes), Packets: l.Packets}
}

// Identification makes the payload for an identity: an IP address, an e-mail
// address or else a domain name (RFC 7296 section 3.5).
func Identification(id string) *ikewire.ID {
	if a, err := netip.ParseAddr(id); err == nil {
		t := ikewire.IDIPv4Addr
		if a.Is6() {
			t = ikewire.IDIPv6Addr
		}
		return &ikewire.ID{IDType: t, Data: a.AsSlice()}
	}
	if strings.Contains(id, "@") {
		return &ikewire.ID{IDType: ikewire.IDRFC822Addr, Data: []byte(id)}
	}
	return &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(id)}
}

// builder collects what is wrong with the files.
type builder struct {
	*Config
	now      time.Time
	problems Problems
	warnings []string
}

func (b *builder) say(key, format string, args ...any) {
	b.problems = append(b.problems, b.Problem(key, fmt.Sprintf(format, args...)))
}

func (b *builder) warn(key, format string, args ...any) {
	b.warnings = append(b.warnings, b.Problem(key, fmt.Sprintf(format, args...)).Error())
}
