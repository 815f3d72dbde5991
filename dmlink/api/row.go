package api

import (
	"reflect"
	"strings"

	"github.com/roamgate/roamgate/dmlink/access"
)

// Recorded says what of an operation is kept in the audit log. Refusals always
// are.
type Recorded uint8

const (
	// Refusals only: for what is looked at.
	Refusals Recorded = iota
	// Looks that tell secrets are recorded before they are answered.
	Looks
	// Changes are recorded before they happen, with their result afterwards. What
	// comes in has to be a Changer.
	Changes
)

// Changer is what comes in for an operation that changes something: it says for
// the audit log what is changed, and how. No secrets.
type Changer interface {
	Change() (object, detail string)
}

// Operation is a row of the table, without its types.
type Operation struct {
	// ID is that of the OpenAPI document and, with spaces in place of dots, the
	// command: "task.place.wipe" is `gatewayd task place wipe`.
	ID           string
	Method, Path string
	// May do it: who has one of these roles.
	May      access.Set
	Recorded Recorded
	Summary  string
	// MaxBody in octets.
	MaxBody int64

	in, out reflect.Type
}

// Noun of the command.
func (o *Operation) Noun() string {
	noun, _, _ := strings.Cut(o.ID, ".")
	return noun
}

// Command is its ID as people type it.
func (o *Operation) Command() string { return strings.ReplaceAll(o.ID, ".", " ") }

// Row of the table of operations: In is what comes in, a struct with fields that
// are tagged path or query, and maybe Body; Out is what goes out as JSON.
type Row[In, Out any] struct{ *Operation }

const (
	// smallBody is enough for all but policies.
	smallBody = 64 << 10
	// policyBody is a document of policy.MaxSize, in JSON.
	policyBody = 24 << 20
)

// table of all operations, in the order of their rows.
var table []*Operation

// Operations that there are, in the order of the table.
func Operations() []*Operation { return table }

// row of the table; pattern is method and path. Rows are made when the package
// is initialized, and never later.
func row[In, Out any](id, pattern string, may access.Set, r Recorded, summary string) Row[In, Out] {
	method, path, _ := strings.Cut(pattern, " ")
	o := &Operation{
		ID: id, Method: method, Path: path, May: may, Recorded: r, Summary: summary, MaxBody: smallBody,
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
	}
	table = append(table, o)
	return Row[In, Out]{o}
}

// large takes bodies of the size of a policy document.
func (r Row[In, Out]) large() Row[In, Out] {
	r.MaxBody = policyBody
	return r
}
