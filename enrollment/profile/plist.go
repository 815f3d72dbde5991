package profile

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// dict of a property list; its order is kept. Values are string, int, bool,
// []byte, []string, dict and []dict.
type dict []entry

type entry struct {
	key   string
	value any
}

const plistHead = xml.Header +
	`<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
`

// plist is the XML form of a property list.
func (d dict) plist() []byte {
	var b bytes.Buffer
	b.WriteString(plistHead)
	writePlist(&b, 0, d)
	b.WriteString("</plist>\n")
	return b.Bytes()
}

func writePlist(b *bytes.Buffer, depth int, value any) {
	indent := strings.Repeat("\t", depth)
	element := func(name, text string) {
		fmt.Fprintf(b, "%s<%s>%s</%s>\n", indent, name, escaped(text), name)
	}
	list := func(n int, item func(int) any) {
		fmt.Fprintf(b, "%s<array>\n", indent)
		for i := range n {
			writePlist(b, depth+1, item(i))
		}
		fmt.Fprintf(b, "%s</array>\n", indent)
	}
	switch v := value.(type) {
	case string:
		element("string", v)
	case int:
		element("integer", strconv.Itoa(v))
	case bool:
		fmt.Fprintf(b, "%s<%t/>\n", indent, v)
	case []byte:
		element("data", base64.StdEncoding.EncodeToString(v))
	case []string:
		list(len(v), func(i int) any { return v[i] })
	case []dict:
		list(len(v), func(i int) any { return v[i] })
	case dict:
		fmt.Fprintf(b, "%s<dict>\n", indent)
		for _, e := range v {
			fmt.Fprintf(b, "%s\t<key>%s</key>\n", indent, escaped(e.key))
			writePlist(b, depth+1, e.value)
		}
		fmt.Fprintf(b, "%s</dict>\n", indent)
	default:
		panic(fmt.Sprintf("property list of %T", value))
	}
}

// escaped for XML.
func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
