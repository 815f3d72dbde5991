package gate

import "testing"

// The first vector is from appendix A of the SipHash paper, the others agree
// with independent implementations.
func TestSipHashVectors(t *testing.T) {
	count := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		return b
	}
	var zero, paper [16]byte
	copy(paper[:], count(16))
	for _, v := range []struct {
		name string
		key  [16]byte
		in   []byte
		want uint64
	}{
		{"paper", paper, count(15), 0xa129ca6149be45e5},
		{"empty", zero, nil, 0x1e924b9d737700d7},
		{"one word", zero, make([]byte, 8), 0xe849e8bb6ffe2567},
		{"word and three", zero, []byte("12345678123"), 0x0f95d77ccdb0649f},
		{"text", zero, []byte("Hello world"), 0xc9e8a3021f3822d9},
		{"long", zero, make([]byte, 1535), 0xe74d1c0ab64b2afa},
	} {
		if got := Sum64(&v.key, v.in); got != v.want {
			t.Errorf("%s: %#x, want %#x", v.name, got, v.want)
		}
	}
}
