package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Request of a row, as it goes over the wire: the other end of what huma makes
// of it. The URL is relative.
func (r Row[In, Out]) Request(in *In) (method, path string, body []byte, err error) {
	fields := map[string]string{}
	query := url.Values{}
	var content any
	if err := encode(reflect.ValueOf(in).Elem(), fields, query, &content); err != nil {
		return "", "", nil, fmt.Errorf("%s: %w", r.ID, err)
	}
	var b strings.Builder
	for _, part := range strings.Split(strings.TrimPrefix(r.Path, "/"), "/") {
		b.WriteByte('/')
		if name, ok := strings.CutPrefix(part, "{"); ok {
			value := fields[strings.TrimSuffix(name, "}")]
			// A server's mux cleans paths before it looks for names in them.
			if value == "" || value == "." || value == ".." {
				return "", "", nil, fmt.Errorf("%w: %q is no name", ErrName, value)
			}
			part = url.PathEscape(value)
		}
		b.WriteString(part)
	}
	if len(query) > 0 {
		b.WriteString("?" + query.Encode())
	}
	if content != nil {
		body, err = json.Marshal(content)
	}
	return r.Method, b.String(), body, err
}

// encode the fields of a struct by their tags.
func encode(v reflect.Value, path map[string]string, query url.Values, body *any) error {
	for i := range v.NumField() {
		f, value := v.Type().Field(i), v.Field(i)
		name := f.Tag.Get("path")
		in := name
		if in == "" {
			name = f.Tag.Get("query")
		}
		switch {
		case f.Anonymous:
			if err := encode(value, path, query, body); err != nil {
				return err
			}
		case f.Name == "Body":
			*body = value.Interface()
		case name == "":
			return fmt.Errorf("field %s is neither in the path, nor in the query, nor the body", f.Name)
		default:
			text, err := encodeOne(value)
			if err != nil {
				return err
			}
			if in != "" {
				path[name] = text
			} else if !value.IsZero() {
				query.Set(name, text)
			}
		}
	}
	return nil
}

func encodeOne(v reflect.Value) (string, error) {
	switch x := v.Interface().(type) {
	case string:
		return x, nil
	case bool:
		return strconv.FormatBool(x), nil
	case int:
		return strconv.Itoa(x), nil
	case int64:
		return strconv.FormatInt(x, 10), nil
	case time.Time:
		return x.Format(time.RFC3339Nano), nil
	}
	return "", fmt.Errorf("type %s", v.Type())
}
