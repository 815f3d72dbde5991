package windows

import (
	"errors"
	"strings"
	"testing"
)

func TestTreeBounds(t *testing.T) {
	for name, message := range map[string]string{
		"nothing":            "",
		"text":               "hello",
		"open":               "<a>",
		"two roots":          "<a/><b/>",
		"deep":               strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1),
		"many":               "<a>" + strings.Repeat("<b/>", maxElements) + "</a>",
		"many attributes":    "<a " + strings.Repeat("x='1' ", maxAttrs+1) + "/>",
		"a document type":    "<!DOCTYPE a><a/>",
		"entities":           `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`,
		"an unknown entity":  "<a>&e;</a>",
		"another encoding":   `<?xml version="1.0" encoding="utf-16"?><a/>`,
		"not UTF-8":          "<a>\xff</a>",
		"large":              "<a>" + strings.Repeat(" ", maxMessage) + "</a>",
		"an unfinished name": "<a:b:c",
	} {
		if root, err := parse([]byte(message)); !errors.Is(err, errXML) {
			t.Errorf("%s: %+v, %v", name, root, err)
		}
	}
	root, err := parse([]byte(`<?xml version="1.0" encoding="utf-8"?><!-- x --><a xmlns="n" b="1"> t <c xmlns="m">1</c><c>2</c>u<d/><d/></a>`))
	if err != nil {
		t.Fatal(err)
	}
	if root.value() != "t u" || root.attr("b") != "1" || root.child("n", "c").value() != "2" || root.child("m", "c").value() != "1" ||
		root.child("n", "d") != nil || root.child("n", "e").child("n", "f").value() != "" {
		t.Errorf("%+v", root)
	}
}

// Text in pieces is one text.
func TestTreeOfPieces(t *testing.T) {
	n := (maxMessage - 7) / 8
	root, err := parse([]byte("<a>" + strings.Repeat("<!---->x", n) + "</a>"))
	if err != nil || root.value() != strings.Repeat("x", n) {
		t.Errorf("%d of %d characters, %v", len(root.value()), n, err)
	}
}

func FuzzParseEnvelope(f *testing.F) {
	f.Add([]byte(discoverMessage(1, "ann@example.com", "4.0")))
	f.Add([]byte(policiesMessage(2, "ann", "8R2N")))
	f.Add([]byte(issueMessage(3, "ann", "8R2N", []byte{0x30, 0x00})))
	f.Fuzz(func(t *testing.T, message []byte) {
		e, err := parseEnvelope(message)
		if err != nil {
			return
		}
		if e.body == nil || len(e.messageID) > maxMessageID {
			t.Errorf("%+v", e)
		}
	})
}
