package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Limits of a filter. The cost is CEL's: about one for each step, and for each
// ten octets of text. A device with thousands of nodes can be looked through.
const (
	maxFilter      = 2048
	maxFilterDepth = 50
	maxFilterNodes = 500
	maxFilterCost  = 50_000
	maxRegex       = 500
	// maxFact bounds what a filter sees of a name or value, and maxFacts how many.
	maxFact  = 1024
	maxFacts = 8192
	// maxVersion is how much of a version is compared.
	maxVersion = 256
)

// ErrFilter is wrapped by what is wrong with a filter, and by what went wrong
// while it ran.
var ErrFilter = errors.New("filter")

// Facts are what a filter can ask about a device.
type Facts struct {
	ID, User, Unit string
	Groups         []string
	// Inventory has the values of nodes by URI, as inventory.Snapshot.Facts gives
	// them.
	Inventory map[string]string
	// Software has versions by name.
	Software map[string]string
	// Surveyed: the device was asked for its inventory since it enrolled, and has
	// answered. Filters may be false only because nothing is known yet otherwise.
	Surveyed bool
}

// Filter is a compiled expression. It is safe for concurrent use. The zero
// Filter is true for every device.
type Filter struct {
	source  string
	program cel.Program
	reads   []string
	all     bool
}

// compileFilter reads an expression of the Common Expression Language that has
// the value true or false. It can use
//
//	id, user, unit      strings
//	groups              list of strings
//	inventory           map of node values by URI, e.g. inventory["./DevInfo/Mod"]
//	software            map of versions by name
//	M.value(K)          M[K], or "" where M has no K
//	older(A, B)         compares versions number by number: older("10.0.9", "10.0.10")
//
// and the standard functions, macros included. The empty expression is true.
func compileFilter(source string) (Filter, error) {
	if source == "" {
		return Filter{}, nil
	}
	if len(source) > maxFilter {
		return Filter{}, fmt.Errorf("%w: %d octets, at most %d", ErrFilter, len(source), maxFilter)
	}
	checked, issues := filterEnv().Compile(source)
	if err := issues.Err(); err != nil {
		return Filter{}, fmt.Errorf("%w: %w", ErrFilter, err)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		return Filter{}, fmt.Errorf("%w: its value is of type %s, expected true or false", ErrFilter, t)
	}
	program, err := filterEnv().Program(checked, cel.CostLimit(maxFilterCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return Filter{}, fmt.Errorf("%w: %w", ErrFilter, err)
	}
	f := Filter{source: source, program: program}
	f.reads, f.all = nodesRead(checked.NativeRep().Expr())
	return f, nil
}

// Match evaluates the filter. A filter that fails, because a node isn't there or
// the cost limit is reached, doesn't match; the error says why.
func (f Filter) Match(facts Facts) (bool, error) {
	if f.program == nil {
		return true, nil
	}
	value, _, err := f.program.Eval(map[string]any{
		"id": cut(facts.ID), "user": cut(facts.User), "unit": cut(facts.Unit),
		"groups":    facts.Groups,
		"inventory": bounded(facts.Inventory),
		"software":  bounded(facts.Software),
	})
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrFilter, err)
	}
	matched, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("%w: its value is of type %s", ErrFilter, value.Type())
	}
	return matched, nil
}

// Reads reports whether what the filter says may change when one of these nodes
// does, or with software when the software does. Where a URI is computed by the
// expression, the answer is always yes.
func (f Filter) Reads(uris ...string) bool {
	if f.all && len(uris) > 0 {
		return true
	}
	return slices.ContainsFunc(uris, func(uri string) bool { return slices.Contains(f.reads, uri) })
}

// SoftwareFact is what Reads takes for all of the software, which no URI is.
const SoftwareFact = "software"

// String is the source.
func (f Filter) String() string { return f.source }

// filterEnv is the language of filters: one for all.
var filterEnv = sync.OnceValue(func() *cel.Env {
	table := cel.MapType(cel.StringType, cel.StringType)
	env, err := cel.NewEnv(
		cel.Variable("id", cel.StringType), cel.Variable("user", cel.StringType), cel.Variable("unit", cel.StringType),
		cel.Variable("groups", cel.ListType(cel.StringType)),
		cel.Variable("inventory", table), cel.Variable("software", table),
		cel.Function("value", cel.MemberOverload("map_value_string", []*cel.Type{table, cel.StringType}, cel.StringType, cel.BinaryBinding(valueOr))),
		cel.Function("older", cel.Overload("older_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(older))),
		cel.ParserExpressionSizeLimit(maxFilter), cel.ParserRecursionLimit(maxFilterDepth),
		cel.ExpressionNodeLimit(maxFilterNodes), cel.RegexProgramSizeLimit(maxRegex),
	)
	if err != nil {
		panic(err) // the declarations above are wrong
	}
	return env
})

func valueOr(m, key ref.Val) ref.Val {
	table, ok := m.(traits.Mapper)
	if !ok {
		return types.MaybeNoSuchOverloadErr(m)
	}
	if v, found := table.Find(key); found {
		return v
	}
	return types.String("")
}

func older(a, b ref.Val) ref.Val {
	x, ok := a.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(a)
	}
	y, ok := b.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(b)
	}
	short := func(v types.String) string { return string(v[:min(len(v), maxVersion)]) }
	return types.Bool(compareVersions(short(x), short(y)) < 0)
}

// compareVersions takes runs of digits as numbers and compares what is between
// them as text; what ends first is older.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, restA := part(a)
		y, restB := part(b)
		if c := compareParts(x, y); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return len(a) - len(b)
}

func part(s string) (string, string) {
	digits := isDigit(s[0])
	i := 1
	for i < len(s) && isDigit(s[i]) == digits {
		i++
	}
	return s[:i], s[i:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func compareParts(x, y string) int {
	if isDigit(x[0]) && isDigit(y[0]) {
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
	}
	return strings.Compare(x, y)
}

// nodesRead finds the constant URIs that an expression asks for; all is true if
// it asks in another way.
func nodesRead(e ast.Expr) (uris []string, all bool) {
	found := map[string]bool{}
	// Uses of the map that aren't the ones understood here mean all of it.
	uses, understood := 0, 0
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			switch strings.TrimPrefix(e.AsIdent(), ".") {
			case "inventory":
				uses++
			case "software":
				found[SoftwareFact] = true
			}
		case ast.CallKind:
			if uri, ok := constantURI(e.AsCall()); ok {
				understood++
				found[uri] = true
			}
		default:
		}
	}))
	return slices.Sorted(maps.Keys(found)), uses > understood
}

// constantURI is that of inventory["U"], inventory.value("U") and "U" in
// inventory.
func constantURI(call ast.CallExpr) (string, bool) {
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	if len(args) != 2 {
		return "", false
	}
	table, key := args[0], args[1]
	switch call.FunctionName() {
	case "_[_]", "value":
	case "@in":
		table, key = key, table
	default:
		return "", false
	}
	if table.Kind() != ast.IdentKind || strings.TrimPrefix(table.AsIdent(), ".") != "inventory" || key.Kind() != ast.LiteralKind {
		return "", false
	}
	uri, ok := key.AsLiteral().Value().(string)
	return uri, ok
}

func cut(s string) string { return s[:min(len(s), maxFact)] }

// bounded is m if it is within the limits, as it almost always is.
func bounded(m map[string]string) map[string]string {
	size := 0
	for _, v := range m {
		size = max(size, len(v))
	}
	if size <= maxFact && len(m) <= maxFacts {
		if m == nil {
			return map[string]string{}
		}
		return m
	}
	out := make(map[string]string, min(len(m), maxFacts))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if len(out) == maxFacts {
			break
		}
		out[k] = cut(m[k])
	}
	return out
}
