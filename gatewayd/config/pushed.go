package config

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/parser"
)

// Pushed is what a manager has pushed, in the terms of the file. Its slices
// aren't changed by anybody.
type Pushed struct {
	Groups            []Group
	Pools, Neighbours []netip.Prefix
	Exclude           []netip.Addr
	Settings          []Setting
	// Roots and Intermediates of devices; no roots: those of the file.
	Roots, Intermediates []*x509.Certificate
}

// Setting is a value by its name below gateway, as JSON.
type Setting struct{ Name, Value string }

// mayPush are the names of settings that a manager has a say in, those below them
// included. What the gateway is, where it listens and whom it trusts isn't among
// them.
var mayPush = []string{
	"ike.proposals", "ike.liveness", "ike.parking", "ike.lifetime", "ike.max_children", "ike.mobike", "ike.childless",
	"esp.proposals", "esp.esn", "esp.lifetime", "esp.limits", "legacy", "redirect", "records.interim",
	"resumption.enabled", "resumption.lifetime", "resumption.rekey_within", "resumption.reauthenticate", "resumption.epoch",
	"static.dns", "static.wins", "static.domains", "static.networks", "static.unknown_devices",
}

// closed lets nothing through.
var closed = []AccessRule{mustRule("deny any")}

func mustRule(text string) (r AccessRule) {
	if err := r.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return r
}

// Closed is an access list that lets nothing through.
func Closed() []AccessRule { return slices.Clone(closed) }

// With is the configuration with what was pushed, validated. Devices that nobody
// knows are quarantined unless it was pushed that they aren't. The error is of
// type Problems, without lines.
func (c *Config) With(p Pushed) (*Config, error) {
	next := *c
	next.pushed = true
	next.roots, next.intermediates = nil, nil
	if c.Gateway.Management.DeviceRoots != DeviceRootsFile {
		next.roots, next.intermediates = p.Roots, p.Intermediates
	}
	next.unused = len(p.Roots) - len(next.roots)
	next.Gateway.Static = Static{
		Pools: p.Pools, NeighbourPools: p.Neighbours, Exclude: p.Exclude,
		Groups: slices.Clone(p.Groups), UnknownDevices: UnknownQuarantine,
	}
	if !slices.ContainsFunc(p.Groups, func(g Group) bool { return g.Name == QuarantineGroup }) {
		next.Gateway.Static.Groups = append(next.Gateway.Static.Groups, Group{Name: QuarantineGroup, Rules: Closed()})
	}
	var problems Problems
	for _, s := range p.Settings {
		problems = append(problems, next.set(s)...)
	}
	if len(problems) == 0 {
		v := &validator{Config: &next}
		v.gateway(&next.Gateway)
		problems = v.problems
	}
	for i := range problems {
		problems[i].File, problems[i].Line = "pushed", 0
	}
	return &next, problems.err()
}

// CheckSettings says what is wrong with settings by themselves, for a manager, who
// doesn't have the rest of a gateway's configuration. The error is of type
// Problems.
func CheckSettings(list []Setting) error {
	c := Default()
	var problems Problems
	for _, s := range list {
		problems = append(problems, c.set(s)...)
	}
	for i := range problems {
		problems[i].File, problems[i].Line = "settings", 0
	}
	return problems.err()
}

// set one value as if it stood in the file.
func (c *Config) set(s Setting) Problems {
	key := "gateway." + s.Name
	if !slices.ContainsFunc(mayPush, func(name string) bool { return s.Name == name || strings.HasPrefix(s.Name, name+".") }) {
		return Problems{{Key: key, Message: "it isn't for a manager to set"}}
	}
	v := reflect.ValueOf(&c.Gateway).Elem()
	for name := range strings.SplitSeq(s.Name, ".") {
		field, ok := reflect.Value{}, false
		if v.Kind() == reflect.Struct {
			field, ok = fieldByKey(v, name)
		}
		if !ok {
			return Problems{{Key: key, Message: fmt.Sprintf("there is no %q", name)}}
		}
		v = field
	}
	if tooDeep([]byte(s.Value)) > 0 {
		return Problems{{Key: key, Message: "too many brackets"}}
	}
	tree, err := parser.ParseBytes([]byte(s.Value), 0)
	if err != nil || len(tree.Docs) != 1 || tree.Docs[0].Body == nil {
		return Problems{{Key: key, Message: "not a value in JSON"}}
	}
	d := &decoder{lines: map[string]int{}}
	d.value(key, tree.Docs[0].Body, v)
	return d.problems
}
