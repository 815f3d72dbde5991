package store_test

import (
	"bytes"
	"testing"

	"github.com/roamgate/roamgate/dmlink/store"
)

// What can be read can be written and read again, and is the same.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		`{"op":{"verb":"Replace","items":[{"target":"./A","data":"AP8=","meta":{"format":"bin"}}]}}`,
		`{"alert":{"code":1100,"items":[{"data":""},{"data":"aGk="}]}}`,
		`{"atomic":[{"op":{"verb":"Add","correlator":"c"}},{"sequence":[]}]}`,
		`{}`, `{"atomic":null}`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := store.UnmarshalCommand(text)
		if err != nil {
			return
		}
		once, err := store.MarshalCommand(c)
		if err != nil {
			t.Fatalf("%s can be read and not written: %v", text, err)
		}
		again, err := store.UnmarshalCommand(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		twice, err := store.MarshalCommand(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s, then %s, %v", once, twice, err)
		}
	})
}
