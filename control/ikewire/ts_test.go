package ikewire

import (
	"bytes"
	"testing"
)

// RFC 7296 section 3.13.1 lets a selector of an unknown type stand beside
// known ones; narrowing leaves it out, so the codec must not refuse it.
func TestUnknownSelectorType(t *testing.T) {
	raw := unhex(`00 00 0023 02 000000
		0a 00 000b 0000 0000 616263
		07 00 0010 ffff 0000 0a000001 0a0000ff`)
	ps, err := ParsePayloads(PayloadTSr, raw)
	if err != nil {
		t.Fatal(err)
	}
	s := ps[0].(*TS).Selectors
	if s[0].Unknown != string(raw[8:19]) || s[0].First.IsValid() {
		t.Errorf("unknown selector %+v", s[0])
	}
	if s[1].Unknown != "" || s[1].FirstPort != 65535 || s[1].LastPort != 0 {
		t.Errorf("OPAQUE selector %+v", s[1])
	}
	if _, out, err := AppendPayloads(nil, ps); err != nil || !bytes.Equal(out, raw) {
		t.Errorf("error %v, octets %x", err, out)
	}
}
