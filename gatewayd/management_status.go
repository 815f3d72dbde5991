package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/metrics"
)

// status for people on the gateway.
func (m *management) status(cfg *config.Config, d door) *local.Management {
	s := &local.Management{
		Name: m.name, Listen: cfg.Gateway.Management.Listen.AddrPort, Host: cfg.ManagementHost(), Fingerprint: m.fingerprint(),
		CertificateEnds: m.agent.CertificateEnds(), Heard: m.agent.Heard(), Alone: d.alone, Refusing: d.refusing,
		Draining: d.drain.On, DrainTo: d.drain.To, Sections: []local.Section{},
	}
	all := m.agent.Sections()
	for _, name := range sectionNames(all) {
		has := all[name]
		s.Sections = append(s.Sections, local.Section{
			Name: string(name), Version: has.Version.String(), Hash: has.Hash.String(), Records: has.Records,
			Applied: has.Applied, Reasons: has.Reasons,
		})
	}
	return s
}

// sectionNames in the order in which they are pushed.
func sectionNames(all map[gcm.Section]gcm.SectionState) []gcm.Section {
	names := slices.Collect(maps.Keys(all))
	slices.SortFunc(names, func(a, b gcm.Section) int { return slices.Index(gcm.Sections, a) - slices.Index(gcm.Sections, b) })
	return names
}

// figures for a scrape; the caller holds gateway.mu.
func (m *management) figures(d door) *metrics.Management {
	f := &metrics.Management{Alone: d.alone, Refusing: d.refusing, Draining: d.drain.On, Sections: map[string]metrics.Section{}}
	if heard := m.agent.Heard(); !heard.IsZero() {
		f.Heard = float64(heard.UnixMilli()) / 1000
	}
	if end := m.agent.CertificateEnds(); !end.IsZero() {
		f.CertificateEnds = float64(end.Unix())
	}
	for name, s := range m.agent.Sections() {
		f.Sections[string(name)] = metrics.Section{Records: s.Records, Applied: s.Applied, Epoch: s.Version.Epoch, Number: s.Version.Number}
	}
	if m.alerts != nil {
		a := m.alerts.Stats()
		f.AlertsPending, f.AlertsSent, f.AlertErrors = a.Pending, a.Sent, a.Errors
	}
	return f
}

// showManagement as rows of `gatewayd status`.
func showManagement(t io.Writer, now time.Time, m *local.Management) {
	if m == nil {
		return
	}
	fmt.Fprintf(t, "manager\tof %s, on %s\n", m.Name, m.Listen)
	switch {
	case m.CertificateEnds.IsZero():
		fmt.Fprintf(t, "\tnot joined yet; fingerprint %s\n", m.Fingerprint)
	case now.After(m.CertificateEnds):
		fmt.Fprintf(t, "\tits certificate expired %s; fingerprint %s\n", ago(now, m.CertificateEnds), m.Fingerprint)
	}
	heard := "never heard from"
	if !m.Heard.IsZero() {
		heard = "heard from " + ago(now, m.Heard)
	}
	switch {
	case m.Refusing:
		heard += "; newcomers are refused"
	case m.Alone:
		heard += "; what was pushed last holds"
	}
	fmt.Fprintf(t, "\t%s\n", heard)
	if m.Draining {
		to := "nobody is let in"
		if m.DrainTo != "" {
			to = "to " + m.DrainTo
		}
		fmt.Fprintf(t, "\tdrains: %s\n", to)
	}
	for _, s := range m.Sections {
		said := fmt.Sprintf("%s, %d records, %.12s", s.Version, s.Records, s.Hash)
		if s.Version == (gcm.Version{}).String() {
			said = "nothing yet"
		} else if !s.Applied {
			said += "; NOT IN FORCE: " + strings.Join(s.Reasons, "; ")
		}
		fmt.Fprintf(t, "pushed %s\t%s\n", s.Name, said)
	}
}
