package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

const (
	access    = string(gcm.Access)
	addresses = string(gcm.Addresses)
	configs   = string(gcm.Settings)
	trust     = string(gcm.Trust)
)

// Content is what administrators decide for all gateways.
type Content struct {
	// Groups by their names.
	Groups map[string]Group `json:"groups,omitempty" yaml:"groups,omitempty"`
	Pools  []Pool           `json:"pools,omitempty" yaml:"pools,omitempty"`
	// Exclude addresses of pools that no device gets.
	Exclude []netip.Addr `json:"exclude,omitempty" yaml:"exclude,omitempty"`
	// Settings by the names that they have in a gateway's configuration, such as
	// "ike.proposals". One for a single gateway is "NAME@GATEWAY".
	Settings map[string]any `json:"settings,omitempty" yaml:"settings,omitempty"`
	// Trust says whose devices get in. Nil leaves it as it is: nobody loses a root
	// because a document doesn't mention it.
	Trust *Trust `json:"trust,omitempty" yaml:"trust,omitempty"`
}

// Group is what its devices may reach.
type Group struct {
	// Rules in the text form of access lists, in their order.
	Rules []string `json:"rules,omitempty" yaml:"rules,omitempty"`
	// Closed: without rules nothing is reached, rather than everything.
	Closed bool `json:"closed,omitempty" yaml:"closed,omitempty"`
	// DeviceRate and GroupRate in octets a second, 0 for none.
	DeviceRate uint64 `json:"device_rate,omitempty" yaml:"device_rate,omitempty"`
	GroupRate  uint64 `json:"group_rate,omitempty" yaml:"group_rate,omitempty"`
}

// Pool of virtual addresses. Out of one without a gateway the manager assigns,
// and devices keep the address wherever they connect; a gateway's own is for
// devices to which nothing is assigned.
type Pool struct {
	Prefix  netip.Prefix `json:"prefix" yaml:"prefix"`
	Gateway string       `json:"gateway,omitempty" yaml:"gateway,omitempty"`
}

// maxContent is how long a document is that ReadContent reads.
const maxContent = 16 << 20

// ReadContent from YAML. Errors: ErrInvalid with the line, and those of r.
func ReadContent(r io.Reader) (Content, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxContent+1))
	if err != nil {
		return Content{}, err
	}
	if len(text) > maxContent {
		return Content{}, fmt.Errorf("%w: more than %d octets", ErrInvalid, maxContent)
	}
	var c Content
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.DisallowUnknownField()); err != nil {
		return Content{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return c, nil
}

// WriteContent as YAML.
func WriteContent(w io.Writer, c Content) error { return yaml.NewEncoder(w).Encode(c) }

// Content that gateways are told now.
func (f *Fleet) Content(ctx context.Context) (Content, error) {
	c := Content{Groups: map[string]Group{}, Settings: map[string]any{}}
	err := f.db.Read(ctx, func(t *database.Tx) error {
		for section, records := range map[gcm.Section]func(*database.Tx) ([]gcm.Record, error){gcm.Access: groups, gcm.Addresses: pools, gcm.Settings: settings, gcm.Trust: authorities} {
			all, err := records(t)
			if err != nil {
				return err
			}
			for _, r := range all {
				typed, err := gcm.Decode(section, r)
				if err != nil {
					return err
				}
				if err := c.add(typed); err != nil {
					return err
				}
			}
		}
		return nil
	})
	c.Trust.sort()
	slices.SortFunc(c.Pools, func(a, b Pool) int { return a.Prefix.Compare(b.Prefix) })
	slices.SortFunc(c.Exclude, netip.Addr.Compare)
	return c, err
}

func (c *Content) add(typed any) error {
	switch v := typed.(type) {
	case gcm.AccessGroup:
		c.Groups[v.Name] = Group{v.Rules, v.Closed, v.DeviceRate, v.GroupRate}
	case gcm.Pool:
		c.Pools = append(c.Pools, Pool{v.Prefix, v.Gateway})
	case netip.Addr:
		c.Exclude = append(c.Exclude, v)
	case gcm.Setting:
		var value any
		if err := json.Unmarshal([]byte(v.Value), &value); err != nil {
			return fmt.Errorf("setting %s: %w", v.Name, err)
		}
		c.Settings[v.Name] = value
	case gcm.Authority:
		if c.Trust == nil {
			c.Trust = &Trust{}
		}
		c.Trust.add(v)
	}
	return nil
}

// SetContent replaces all of it. Devices whose address isn't in a pool any more
// get another one, and those that had none, one, if there is. Error: ErrInvalid
// with everything that is wrong.
func (f *Fleet) SetContent(ctx context.Context, c Content) error {
	all, err := c.records()
	err = errors.Join(append([]error{err}, f.Check(c)...)...)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return f.change(ctx, func(t *change) error {
		if err := t.setGroups(c.Groups, all[gcm.Access]); err != nil {
			return err
		}
		if err := t.setSettings(all[gcm.Settings]); err != nil {
			return err
		}
		if c.Trust != nil {
			if err := t.setTrust(all[gcm.Trust]); err != nil {
				return err
			}
		}
		return t.setPools(c, all[gcm.Addresses])
	}, access, addresses, configs, devices, trust)
}

// SettingTexts are the settings as JSON.
func (c Content) SettingTexts() (map[string]string, error) {
	all := make(map[string]string, len(c.Settings))
	for name, value := range c.Settings {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("setting %s: %w", name, err)
		}
		all[name] = string(text)
	}
	return all, nil
}

// records of a content, checked as gateways do by themselves.
func (c Content) records() (map[gcm.Section][]gcm.Record, error) {
	all := map[gcm.Section][]gcm.Record{}
	var wrong []error
	for name, g := range c.Groups {
		all[gcm.Access] = append(all[gcm.Access], gcm.AccessGroup{Name: name, Rules: g.Rules, Closed: g.Closed, DeviceRate: g.DeviceRate, GroupRate: g.GroupRate}.Record())
		if slices.ContainsFunc(g.Rules, func(r string) bool { return strings.ContainsAny(r, "\n\r") }) {
			wrong = append(wrong, fmt.Errorf("group %s: a rule is one line", name))
		}
		if g.DeviceRate > 1<<62 || g.GroupRate > 1<<62 {
			wrong = append(wrong, fmt.Errorf("group %s: a rate is at most %d octets a second", name, uint64(1)<<62))
		}
	}
	texts, err := c.SettingTexts()
	wrong = append(wrong, err)
	for name, text := range texts {
		all[gcm.Settings] = append(all[gcm.Settings], gcm.Setting{Name: name, Value: text}.Record())
	}
	for n, p := range c.Pools {
		if !p.Prefix.IsValid() || p.Prefix.Masked() != p.Prefix {
			wrong = append(wrong, fmt.Errorf("pool %v: not a network", p.Prefix))
			continue
		}
		for _, q := range c.Pools[:n] {
			if q.Prefix.IsValid() && q.Prefix.Overlaps(p.Prefix) {
				wrong = append(wrong, fmt.Errorf("pools %v and %v overlap", q.Prefix, p.Prefix))
			}
		}
		all[gcm.Addresses] = append(all[gcm.Addresses], gcm.Pool(p).Record())
	}
	for _, a := range c.Exclude {
		all[gcm.Addresses] = append(all[gcm.Addresses], gcm.ExcludeRecord(a))
	}
	all[gcm.Trust], err = c.Trust.Records()
	wrong = append(wrong, err)
	for section, records := range all {
		_, err := gcm.Load(section, gcm.Version{}, sequence(records, nil))
		wrong = append(wrong, err)
	}
	return all, errors.Join(wrong...)
}

// same says whether a section has these records.
func same(had, records []gcm.Record) bool {
	of := func(all []gcm.Record) map[string]string {
		m := map[string]string{}
		for _, r := range all {
			m[string(r.Key)] = string(r.Value)
		}
		return m
	}
	return maps.Equal(of(had), of(records))
}

func (c *change) setGroups(to map[string]Group, records []gcm.Record) error {
	had, err := groups(c.Tx)
	if err != nil || same(had, records) {
		return err
	}
	c.touch(access)
	if _, err := c.Exec(`DELETE FROM gcm_group`); err != nil {
		return err
	}
	for name, g := range to {
		if _, err := c.Exec(`INSERT INTO gcm_group (name, rules, closed, device_rate, group_rate) VALUES ($1, $2, $3, $4, $5)`,
			name, strings.Join(g.Rules, "\n"), flag(g.Closed), int64(g.DeviceRate), int64(g.GroupRate)); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) setSettings(records []gcm.Record) error {
	had, err := settings(c.Tx)
	if err != nil || same(had, records) {
		return err
	}
	c.touch(configs)
	if _, err := c.Exec(`DELETE FROM gcm_setting`); err != nil {
		return err
	}
	for _, r := range records {
		if _, err := c.Exec(`INSERT INTO gcm_setting (name, value) VALUES ($1, $2)`, string(r.Key), string(r.Value)); err != nil {
			return err
		}
	}
	return nil
}

func groups(t *database.Tx) ([]gcm.Record, error) {
	return database.Query(t.Context(), t, func(r database.Row) (gcm.Record, error) {
		var g gcm.AccessGroup
		var rules string
		err := r.Scan(&g.Name, &rules, &g.Closed, &g.DeviceRate, &g.GroupRate)
		if rules != "" {
			g.Rules = strings.Split(rules, "\n")
		}
		return g.Record(), err
	}, `SELECT name, rules, closed, device_rate, group_rate FROM gcm_group`)
}

func settings(t *database.Tx) ([]gcm.Record, error) {
	return database.Query(t.Context(), t, func(r database.Row) (gcm.Record, error) {
		var s gcm.Setting
		err := r.Scan(&s.Name, &s.Value)
		return s.Record(), err
	}, `SELECT name, value FROM gcm_setting`)
}

func pools(t *database.Tx) ([]gcm.Record, error) {
	all, err := database.Query(t.Context(), t, func(r database.Row) (gcm.Record, error) {
		var prefix, gateway string
		if err := r.Scan(&prefix, &gateway); err != nil {
			return gcm.Record{}, err
		}
		p, err := netip.ParsePrefix(prefix)
		if err != nil {
			return gcm.Record{}, err
		}
		return gcm.Pool{Prefix: p, Gateway: gateway}.Record(), nil
	}, `SELECT prefix, gateway FROM gcm_pool`)
	if err != nil {
		return nil, err
	}
	excluded, err := database.Query(t.Context(), t, func(r database.Row) (gcm.Record, error) {
		var text string
		if err := r.Scan(&text); err != nil {
			return gcm.Record{}, err
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			return gcm.Record{}, err
		}
		return gcm.ExcludeRecord(a), nil
	}, `SELECT address FROM gcm_exclude`)
	return append(all, excluded...), err
}
