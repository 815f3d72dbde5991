package https

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"testing"
)

// Readers who ask for a large list and take their time share one copy of it.
func TestAttackSharedAnswer(t *testing.T) {
	list := bytes.Repeat([]byte("revoked "), 1<<17) // 1 MiB
	s := serve(t, testLimits, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pkix-crl")
		WriteShared(w, list)
	})
	r := s.get(t, "/crl")
	got, err := io.ReadAll(r.Body)
	if err != nil || !bytes.Equal(got, list) || r.ContentLength != int64(len(list)) || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %d octets of %d (%v)", r.Status, len(got), r.ContentLength, err)
	}
	if list[0] != 'r' {
		t.Fatal("the shared list was erased")
	}

	// Answers that nobody has read: none keeps the list of its own.
	const readers = 100
	answers := make([]whole, readers)
	before := allocated()
	for i := range answers {
		answers[i].header = make(http.Header)
		WriteShared(&answers[i], list)
	}
	if more := allocated() - before; more > uint64(len(list)) {
		t.Errorf("%d octets for %d answers of %d", more, readers, len(list))
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
