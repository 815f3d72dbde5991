package task

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

// ErrInvalid: a task that can't be; the text says why.
var ErrInvalid = errors.New("invalid task")

// Order is what a type makes of parameters.
type Order struct {
	Semantics session.Semantics
	Command   syncml.Command
	// Query is for Queryable commands.
	Query *session.Query
}

// Parameter of a type, for help texts and forms.
type Parameter struct {
	Name, Help string
	Required   bool
	// Default and Choices, where there are some.
	Default string
	Choices []string
}

// Type of a task.
type Type struct {
	Name, Help string
	Parameters []Parameter
	// Urgency: lower ones reach a device first. Ordinary is 0.
	Urgency int
	// Lifetime unless the request says another.
	Lifetime time.Duration
	// Closes a device when it is done, or expires without an answer.
	Closes bool
	// Make the command. Parameters are those of the table, with defaults.
	Make func(Values) (Order, error)
}

// Values of parameters.
type Values map[string]string

// Table of types by name.
type Table map[string]Type

// Add a type.
func (t Table) Add(types ...Type) {
	for _, one := range types {
		t[one.Name] = one
	}
}

// Names in order.
func (t Table) Names() []string { return slices.Sorted(maps.Keys(t)) }

// Make the command of a type, by parameters that a person gave. Errors don't
// repeat those, which may be secret: they are written down.
func (t Table) Make(name string, given Values) (Type, Order, error) {
	one, ok := t[name]
	if !ok {
		return one, Order{}, fmt.Errorf("%w: no type %q; there are %s", ErrInvalid, name, strings.Join(t.Names(), ", "))
	}
	values := Values{}
	for _, p := range one.Parameters {
		v, ok := given[p.Name]
		switch {
		case !ok && p.Required:
			return one, Order{}, fmt.Errorf("%w: %s needs %s: %s", ErrInvalid, name, p.Name, p.Help)
		case !ok && p.Default == "":
			continue
		case !ok:
			v = p.Default
		case len(p.Choices) > 0 && !slices.Contains(p.Choices, v):
			return one, Order{}, fmt.Errorf("%w: %s of %s is none of %s", ErrInvalid, p.Name, name, strings.Join(p.Choices, ", "))
		}
		values[p.Name] = v
	}
	for _, v := range slices.Sorted(maps.Keys(given)) {
		if !slices.ContainsFunc(one.Parameters, func(p Parameter) bool { return p.Name == v }) {
			names := []string{}
			for _, p := range one.Parameters {
				names = append(names, p.Name)
			}
			return one, Order{}, fmt.Errorf("%w: %s has no such parameter; there are: %s", ErrInvalid, name, strings.Join(names, ", "))
		}
	}
	o, err := one.Make(values)
	return one, o, err
}

const (
	day = 24 * time.Hour
	// wipeRoot: RemoteWipe configuration service provider.
	wipeRoot = "./Vendor/MSFT/RemoteWipe/"
)

// Types that there are by default. Callers may add theirs.
func Types() Table {
	t := Table{}
	t.Add(
		Type{
			Name: "wipe", Help: "erase the device and its storage cards, then close its account and revoke its certificate",
			Urgency: -100, Lifetime: 30 * day, Closes: true,
			Parameters: []Parameter{{
				Name: "mode", Help: "how thoroughly", Default: "doWipe",
				Choices: []string{"doWipe", "doWipeProtected", "doWipePersistProvisionedData", "doWipePersistUserData"},
			}},
			Make: func(v Values) (Order, error) {
				return Order{session.OnceOnly, op(syncml.Exec, wipeRoot+v["mode"]), nil}, nil
			},
		},
		execType("lock", "lock the screen", "./Vendor/MSFT/RemoteLock/Lock"),
		execType("deactivate", "make the device useless until it is activated (Lock and Wipe Management Object)", "./LAWMO/Operations/FullyLock"),
		execType("activate", "make a deactivated device usable again", "./LAWMO/Operations/UnLock"),
		Type{
			Name: "query", Help: "read nodes of the management tree", Lifetime: 7 * day,
			Parameters: []Parameter{{Name: "uri", Help: "URIs of nodes, separated by spaces", Required: true}},
			Make:       makeQuery,
		},
		Type{
			Name: "message", Help: "show the user a text", Lifetime: 7 * day,
			Parameters: []Parameter{{Name: "text", Help: "what to show", Required: true}},
			Make: func(v Values) (Order, error) {
				// The first item is for display parameters, none here
				// (OMA-TS-DM_Protocol-V1_2_1 section 10.2).
				items := []syncml.Item{{HasData: true}, {Data: []byte(v["text"]), HasData: true}}
				return Order{session.OnceOnly, &syncml.Alert{Code: syncml.AlertDisplay, Items: items}, nil}, nil
			},
		},
		nodeType("add", "add a node", syncml.Add, session.Queryable, true),
		nodeType("replace", "replace the value of a node", syncml.Replace, session.Idempotent, true),
		nodeType("delete", "delete a node", syncml.Delete, session.Queryable, false),
		nodeType("exec", "execute a node, once", syncml.Exec, session.OnceOnly, true),
		Type{
			Name: "copy", Help: "copy a node to another place", Lifetime: 7 * day,
			Parameters: []Parameter{{Name: "from", Help: "URI of the node", Required: true}, {Name: "uri", Help: "URI of the copy", Required: true}},
			Make: func(v Values) (Order, error) {
				o := op(syncml.Copy, v["uri"])
				o.Items[0].Source.URI = v["from"]
				return Order{session.Idempotent, o, nil}, firstError(checkURI("uri", v["uri"]), checkURI("from", v["from"]))
			},
		},
	)
	return t
}

func op(verb syncml.Verb, uri string) *syncml.Op {
	return &syncml.Op{Verb: verb, Items: []syncml.Item{{Target: syncml.Location{URI: uri}}}}
}

// execType executes a node that may be executed again without harm.
func execType(name, help, standby string) Type {
	return Type{
		Name: name, Help: help, Urgency: -50, Lifetime: 7 * day,
		Parameters: []Parameter{{Name: "uri", Help: "the node that does it on this kind of device", Default: standby}},
		Make: func(v Values) (Order, error) {
			return Order{session.Idempotent, op(syncml.Exec, v["uri"]), nil}, checkURI("uri", v["uri"])
		},
	}
}

func nodeType(name, help string, verb syncml.Verb, semantics session.Semantics, value bool) Type {
	t := Type{
		Name: name, Help: help, Lifetime: 7 * day,
		Parameters: []Parameter{{Name: "uri", Help: "URI of the node", Required: true}},
	}
	if value {
		t.Parameters = append(t.Parameters,
			Parameter{Name: "value", Help: "what it gets"},
			Parameter{Name: "format", Help: "of the value", Choices: []string{"chr", "int", "bool", "float", "b64", "xml", "node", "null"}},
			Parameter{Name: "type", Help: "media type of the value"})
	}
	t.Make = func(v Values) (Order, error) {
		o := op(verb, v["uri"])
		i := &o.Items[0]
		data, given := v["value"]
		i.Data, i.HasData = []byte(data), given
		i.Meta.Format, i.Meta.Type = v["format"], v["type"]
		order := Order{Semantics: semantics, Command: o}
		switch verb {
		case syncml.Add:
			// Whether it is there is what can be asked; the value may be told in
			// other words than it was given.
			order.Query = &session.Query{URI: v["uri"]}
		case syncml.Delete:
			order.Query = &session.Query{URI: v["uri"], Gone: true}
		case syncml.Copy, syncml.Exec, syncml.Get, syncml.Replace:
		}
		return order, firstError(checkURI("uri", v["uri"]), checkValue(v))
	}
	return t
}

func makeQuery(v Values) (Order, error) {
	uris := strings.Fields(v["uri"])
	if len(uris) == 0 {
		return Order{}, fmt.Errorf("%w: query of no URI", ErrInvalid)
	}
	o := &syncml.Op{Verb: syncml.Get}
	for _, u := range uris {
		if err := checkURI("uri", u); err != nil {
			return Order{}, err
		}
		o.Items = append(o.Items, syncml.Item{Target: syncml.Location{URI: u}})
	}
	return Order{session.Idempotent, o, nil}, nil
}

func checkURI(name, uri string) error {
	if _, err := tree.ParseURI(uri); err != nil {
		return fmt.Errorf("%w: %s isn't the URI of a node: want the like of ./A/B", ErrInvalid, name)
	}
	return nil
}

func checkValue(v Values) error {
	ok := true
	switch v["format"] {
	case "int":
		_, err := strconv.ParseInt(v["value"], 10, 64)
		ok = err == nil
	case "bool":
		ok = v["value"] == "true" || v["value"] == "false"
	case "float":
		_, err := strconv.ParseFloat(v["value"], 64)
		ok = err == nil
	}
	if !ok {
		return fmt.Errorf("%w: the value isn't of format %s", ErrInvalid, v["format"])
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
