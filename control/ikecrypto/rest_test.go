package ikecrypto

import (
	"bytes"
	"crypto/rand"
	"testing"
)

// A Protector that was laid down and taken up goes on where it was: with the next
// IV, never with one that was used.
func TestRestore(t *testing.T) {
	for _, s := range suites() {
		t.Run(s.String(), func(t *testing.T) {
			out, in := newProtector(t, s), newProtector(t, s)
			first, _ := seal(t, out, request())
			state := out.AppendState([]byte("before"))
			if !bytes.HasPrefix(state, []byte("before")) {
				t.Fatal("what was there is gone")
			}
			out.Erase()
			if n := len(out.AppendState(nil)); n != 0 {
				t.Fatalf("%d octets of one that was erased", n)
			}
			again, rest, err := Restore(s, append(state[6:], "behind"...), rand.Reader)
			if err != nil || string(rest) != "behind" {
				t.Fatalf("%q, %v", rest, err)
			}
			second, parsed := seal(t, again, request())
			if bytes.Equal(first, second) {
				t.Fatal("the same IV twice")
			}
			if _, err := in.Open(second, parsed); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.AppendState(nil)[8:], state[6+8:]) {
				t.Fatal("other keys")
			}
			if _, _, err := Restore(s, state[6:len(state)-1], rand.Reader); err == nil {
				t.Fatal("a state that is too short was taken")
			}
		})
	}
}
