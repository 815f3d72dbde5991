package wbxml

import (
	"bytes"
	"unicode/utf8"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

func (syntax) Append(dst []byte, doc syncml.Document) ([]byte, error) {
	if doc.Root == nil || doc.Root.Name != "SyncML" {
		return nil, malformed("the root is no SyncML element")
	}
	w := writer{dst: dst, version: doc.Version}
	w.dst = append(w.dst, sentVersion)
	w.dst = appendNumber(w.dst, publicIDs[doc.Version].number)
	w.dst = appendNumber(w.dst, charsetUTF8)
	w.dst = appendNumber(w.dst, 0) // no string table
	if err := w.element(doc.Root); err != nil {
		return nil, err
	}
	return w.dst, nil
}

type writer struct {
	dst     []byte
	version syncml.Version
	page    syncml.Space
}

func (w *writer) element(e *syncml.Element) error {
	token, ok := byte(0), false
	if int(e.Space) < len(tags) {
		token, ok = tags[e.Space][e.Name]
	}
	if !ok || w.version == syncml.V11 && token > lastTag11[e.Space] {
		return malformed("no token for %.64q in SyncML %s", e.Name, w.version.DTD())
	}
	if e.Space != w.page {
		w.dst = append(w.dst, switchPage, byte(e.Space))
		w.page = e.Space
	}
	if len(e.Children) == 0 && len(e.Text) == 0 {
		w.dst = append(w.dst, token)
		return nil
	}
	w.dst = append(w.dst, token|hasContent)
	if len(e.Children) == 0 {
		w.text(e)
	}
	for _, c := range e.Children {
		if err := w.element(c); err != nil {
			return err
		}
	}
	w.dst = append(w.dst, end)
	return nil
}

// text goes inline where it is text, otherwise opaque, as markup does.
func (w *writer) text(e *syncml.Element) {
	if e.Markup || !utf8.Valid(e.Text) || bytes.IndexByte(e.Text, 0) >= 0 {
		w.dst = append(w.dst, opaque)
		w.dst = appendNumber(w.dst, uint32(len(e.Text)))
		w.dst = append(w.dst, e.Text...)
		return
	}
	w.dst = append(w.dst, strI)
	w.dst = append(append(w.dst, e.Text...), 0)
}

// appendNumber writes a multi-byte integer.
func appendNumber(dst []byte, n uint32) []byte {
	shift := 28
	for shift > 0 && n>>shift == 0 {
		shift -= 7
	}
	for ; shift > 0; shift -= 7 {
		dst = append(dst, byte(n>>shift)&0x7F|0x80)
	}
	return append(dst, byte(n&0x7F))
}

// Size is never less than what e takes: each element of the other page is
// counted with a change to it and back.
func (syntax) Size(e *syncml.Element) int { return size(e, syncml.SyncML) }

func size(e *syncml.Element, in syncml.Space) int {
	n := 1
	if e.Space != in {
		n += 2 * len([]byte{switchPage, 0})
	}
	if len(e.Children) == 0 && len(e.Text) == 0 {
		return n
	}
	n++ // end
	if len(e.Children) == 0 {
		n += 1 + 5 + len(e.Text) // token, and a length or NUL
	}
	for _, c := range e.Children {
		n += size(c, e.Space)
	}
	return n
}

func (syntax) Frame(v syncml.Version) int {
	head := 1 + len(appendNumber(nil, publicIDs[v].number)) + len(appendNumber(nil, charsetUTF8)) + 1
	return head + len([]byte{0, end})
}
