package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
)

// operationAnnotation of a command names the operations that it is, for the test
// that none is missing.
const operationAnnotation = "operation"

// verbOf what a command is beside its operation: name, summary, arguments and
// the flags of queries come from the row.
type verbOf[In, Out any] struct {
	long, example string
	// flags for what isn't in the path or query.
	flags func(*pflag.FlagSet, *In)
	// prepare what goes out, after flags and arguments.
	prepare  func(c *cobra.Command, in *In) error
	complete cobra.CompletionFunc
	table    func(t *tabwriter.Writer, out Out)
}

// verb is a command that calls one operation.
func verb[In, Out any](f *managerFlags, row api.Row[In, Out], v verbOf[In, Out]) *cobra.Command {
	in := new(In)
	c, names := bare(row.Operation, v.long, v.example, in)
	if v.flags != nil {
		v.flags(c.Flags(), in)
	}
	c.ValidArgsFunction = v.complete
	var o *output
	c.RunE = f.with(func(c *cobra.Command, args []string, m *client.Client) error {
		setPath(in, names, args)
		if v.prepare != nil {
			if err := v.prepare(c, in); err != nil {
				return err
			}
		}
		out, err := client.Call(c.Context(), m, row, in)
		if err != nil {
			return err
		}
		return o.print(c.OutOrStdout(), out, func(t *tabwriter.Writer) { v.table(t, out) })
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}

// listOf is what a list is beside its operation.
type listOf[In, T any] struct {
	long, example string
	complete      cobra.CompletionFunc
	// head and row of the table, cells divided by tabs.
	head string
	row  func(T) string
}

// list is a command that calls an operation until it has all pages.
func list[In, T any](f *managerFlags, row api.Row[In, api.Page[T]], v listOf[In, T]) *cobra.Command {
	in := new(In)
	c, names := bare(row.Operation, v.long, v.example, in)
	c.ValidArgsFunction = v.complete
	limit := maxListed
	paging := pagingOf(in)
	if paging != nil {
		limitFlag(c, &limit)
	}
	var o *output
	c.RunE = f.with(func(c *cobra.Command, args []string, m *client.Client) error {
		setPath(in, names, args)
		if limit < 1 {
			return usage("--limit %d: want at least 1", limit)
		}
		var items []T
		var err error
		if paging != nil {
			items, err = client.Pages(c.Context(), m, row, in, paging, limit)
		} else {
			var p api.Page[T]
			p, err = client.Call(c.Context(), m, row, in)
			items = p.Items
		}
		if err != nil {
			return err
		}
		return o.print(c.OutOrStdout(), items, func(t *tabwriter.Writer) {
			fmt.Fprintln(t, v.head)
			for _, one := range items {
				fmt.Fprintln(t, v.row(one))
			}
		})
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}

// bare is the command of an operation, with arguments for its path and flags for
// its query.
func bare(o *api.Operation, long, example string, in any) (c *cobra.Command, names []string) {
	words := strings.Split(o.ID, ".")
	use := words[len(words)-1]
	value := reflect.ValueOf(in).Elem()
	c = &cobra.Command{Short: o.Summary, Example: example, Annotations: map[string]string{operationAnnotation: o.ID}}
	fieldsOf(value, func(f reflect.StructField, v reflect.Value) {
		if name := f.Tag.Get("path"); name != "" {
			names = append(names, name)
			use += " " + strings.ToUpper(name)
		} else if name := f.Tag.Get("query"); name != "" && f.Type != reflect.TypeFor[api.Paging]() {
			queryFlag(c.Flags(), name, f.Tag.Get("doc"), f.Tag.Get("enum"), v)
			if choices := f.Tag.Get("enum"); choices != "" {
				_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(strings.Split(choices, ","), cobra.ShellCompDirectiveNoFileComp))
			}
		}
	})
	c.Use = use
	if long == "" {
		long = o.Summary + "."
	}
	c.Long = long + "\n\nRoles that may: " + o.May.String() + "."
	c.Args = args(cobra.ExactArgs(len(names)))
	return c, names
}

// fieldsOf a struct, those of embedded ones too, but for paging, which lists do
// by themselves.
func fieldsOf(v reflect.Value, each func(reflect.StructField, reflect.Value)) {
	if v.Type() == reflect.TypeFor[api.Paging]() {
		return
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Anonymous {
			fieldsOf(v.Field(i), each)
		} else {
			each(f, v.Field(i))
		}
	}
}

func pagingOf(in any) *api.Paging {
	if p, ok := in.(*api.Paging); ok {
		return p
	}
	if v := reflect.ValueOf(in).Elem().FieldByName("Paging"); v.IsValid() {
		p, _ := v.Addr().Interface().(*api.Paging)
		return p
	}
	return nil
}

func setPath(in any, names, args []string) {
	fieldsOf(reflect.ValueOf(in).Elem(), func(f reflect.StructField, v reflect.Value) {
		for n, name := range names {
			if f.Tag.Get("path") != name {
				continue
			}
			switch v.Kind() {
			case reflect.Int64:
				// What is no number is none that there is.
				var number int64
				_, _ = fmt.Sscan(args[n], &number)
				v.SetInt(number)
			default:
				v.SetString(args[n])
			}
		}
	})
}

func queryFlag(flags *pflag.FlagSet, name, doc, enum string, v reflect.Value) {
	doc = strings.TrimSuffix(doc, ".")
	if first, rest, ok := strings.Cut(doc, " "); ok && first[1:] == strings.ToLower(first[1:]) {
		doc = strings.ToLower(first) + " " + rest
	}
	if enum != "" {
		if doc != "" {
			doc += ": "
		}
		doc += strings.ReplaceAll(enum, ",", ", ")
	}
	if doc == "" {
		doc = "of this " + name
	}
	switch p := v.Addr().Interface().(type) {
	case *string:
		flags.StringVar(p, name, "", doc)
	case *bool:
		flags.BoolVar(p, name, false, doc)
	case *int:
		flags.IntVar(p, name, 0, doc)
	case *int64:
		flags.Int64Var(p, name, 0, doc)
	case *time.Time:
		flags.Var((*momentFlag)(p), name, strings.Replace(doc, "(RFC 3339)", "(RFC 3339, or so long ago, such as 24h)", 1))
	default:
		panic("no flag for " + name)
	}
}

// momentFlag is a moment, or how long ago it was.
type momentFlag time.Time

func (m *momentFlag) Set(text string) error {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		*m = momentFlag(time.Now().Add(-d))
		return nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("want a moment such as 2026-11-22T09:00:00Z, or so long ago, such as 24h")
	}
	*m = momentFlag(t)
	return nil
}

func (m *momentFlag) String() string {
	if t := time.Time(*m); !t.IsZero() {
		return t.Format(time.RFC3339)
	}
	return ""
}

func (*momentFlag) Type() string { return "time" }

// cells of a line of a table.
func cells(list ...any) string {
	text := make([]string, len(list))
	for i, v := range list {
		if t, ok := v.(time.Time); ok {
			text[i] = when(t)
		} else {
			text[i] = orDash(oneLine(fmt.Sprint(v)))
		}
	}
	return strings.Join(text, "\t")
}

// oneLine is what others wrote, for a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '\uFFFD'
		}
		return r
	}, s)
}

// pairs writes lines of a name and a value; empty ones are left out.
func pairs(w io.Writer, list ...any) {
	for i := 0; i+1 < len(list); i += 2 {
		text := oneLine(fmt.Sprint(list[i+1]))
		if t, ok := list[i+1].(time.Time); ok {
			text = when(t)
		}
		if text != "" && text != "-" {
			fmt.Fprintf(w, "%s\t%s\n", list[i], text)
		}
	}
}
