package config

import (
	_ "embed"
	"encoding/json"
	"reflect"

	"github.com/goccy/go-yaml"
)

// Sample is a commented file with every key; it is valid.
//
//go:embed sample.yaml
var Sample []byte

// YAML is the effective configuration, defaults included, without the sections
// of roles that the file doesn't have. It holds names of key files, never keys.
func (c *Config) YAML() ([]byte, error) {
	var shown yaml.MapSlice
	v := reflect.ValueOf(*c)
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		if key == "" || isRole(key) && !c.Has(key) {
			continue
		}
		shown = append(shown, yaml.MapItem{Key: key, Value: v.Field(i).Interface()})
	}
	return yaml.MarshalWithOptions(shown, yaml.IndentSequence(true))
}

// isRole says whether a section is checked only where the file has it.
func isRole(section string) bool {
	return section == "gateway" || section == "enrollment" || section == "manager" || section == "client"
}

// JSON is the same as YAML returns, in JSON.
func (c *Config) JSON() ([]byte, error) {
	y, err := c.YAML()
	if err != nil {
		return nil, err
	}
	compact, err := yaml.YAMLToJSON(y)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(json.RawMessage(compact), "", "  ")
}

// NeedRestart lists the keys that differ between two configurations and that a
// reload can't change: those of fields tagged `restart`, and pools if the first
// or the last one of an address family is new or gone.
func NeedRestart(running, file *Config) []string {
	keys := changed("", reflect.ValueOf(*running), reflect.ValueOf(*file), false)
	if otherFamilies(running, file) {
		keys = append(keys, "gateway.static.pools")
	}
	return keys
}

// Adopt makes what can't be changed by a reload the running one's again.
func (c *Config) Adopt(running *Config) {
	adopt(reflect.ValueOf(c).Elem(), reflect.ValueOf(running).Elem())
	if otherFamilies(running, c) {
		c.Gateway.Static.Pools = running.Gateway.Static.Pools
	}
}

// otherFamilies: the TUN interface is made for certain address families.
func otherFamilies(a, b *Config) bool {
	a4, a6 := a.Gateway.Static.Families()
	b4, b6 := b.Gateway.Static.Families()
	return a4 != b4 || a6 != b6
}

func changed(key string, a, b reflect.Value, restart bool) []string {
	if isSection(a.Type()) {
		var keys []string
		for i := range a.NumField() {
			if f := a.Type().Field(i); f.Tag.Get("yaml") != "" {
				path := join(key, f.Tag.Get("yaml"))
				keys = append(keys, changed(path, a.Field(i), b.Field(i), restart || f.Tag.Get("restart") != "")...)
			}
		}
		return keys
	}
	// A nil list is an empty one.
	if !restart || a.Kind() == reflect.Slice && a.Len()+b.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface()) {
		return nil
	}
	return []string{key}
}

func adopt(to, from reflect.Value) {
	for i := range to.NumField() {
		switch f := to.Type().Field(i); {
		case f.Tag.Get("yaml") == "":
		case f.Tag.Get("restart") != "":
			to.Field(i).Set(from.Field(i))
		case isSection(f.Type):
			adopt(to.Field(i), from.Field(i))
		}
	}
}

// isSection: a struct of keys, not a scalar that happens to be one.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && len(keysOf(t)) > 0
}
