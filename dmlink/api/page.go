package api

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// pageOf a list that was asked for one more than the limit.
func pageOf[A, B any](list []A, limit int, convert func(A) B, cursor func(A) string) Page[B] {
	p := Page[B]{Items: make([]B, 0, min(len(list), limit))}
	for i, v := range list {
		if i == limit {
			p.Next = cursor(list[i-1])
			break
		}
		p.Items = append(p.Items, convert(v))
	}
	return p
}

// number that a cursor is; 0 if it is empty.
func (p Paging) number() (int64, error) {
	if p.After == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(p.After, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: after %.40q is no number", errNoNumber, p.After)
	}
	return n, nil
}

// numbered is a page of a list with numbers.
func numbered[A, B any](ctx context.Context, p Paging, read func(ctx context.Context, after int64, limit int) ([]A, error), convert func(A) B, number func(A) int64) (Page[B], error) {
	after, err := p.number()
	if err != nil {
		return Page[B]{}, err
	}
	list, err := read(ctx, after, p.Limit+1)
	if err != nil {
		return Page[B]{}, err
	}
	return pageOf(list, p.Limit, convert, func(a A) string { return strconv.FormatInt(number(a), 10) }), nil
}

// listed is never null in JSON.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// notText is a string in what came in that databases don't take as text, "" if
// there is none.
func notText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
			return s
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return notText(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return ""
		}
		for _, f := range v.Fields() {
			if s := notText(f); s != "" {
				return s
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return ""
		}
		for i := range v.Len() {
			if s := notText(v.Index(i)); s != "" {
				return s
			}
		}
	case reflect.Map:
		for k, e := range v.Seq2() {
			if s := notText(k); s != "" {
				return s
			}
			if s := notText(e); s != "" {
				return s
			}
		}
	default:
	}
	return ""
}
