package dptest

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

// recorder sees all ESP packets that the devices of a run receive.
type recorder struct {
	mu        sync.Mutex
	keys      map[dataplane.SPI]string // of outbound SAs
	seen      map[sent]int
	strangers int
}

// sent is a sequence number on the wire under a key. Its low half is enough: no
// scenario sends 2^32 packets.
type sent struct {
	key string
	seq uint32
}

func newRecorder() *recorder {
	return &recorder{keys: make(map[dataplane.SPI]string), seen: make(map[sent]int)}
}

// expect makes an outbound SA known.
func (r *recorder) expect(sa dataplane.SA) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[sa.SPI] = string(sa.Keys.Encryption) + string(sa.Keys.Integrity)
}

func (r *recorder) packet(esp []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, ok := r.keys[dataplane.SPI(binary.BigEndian.Uint32(esp))]
	if !ok {
		r.strangers++
		return
	}
	r.seen[sent{key, binary.BigEndian.Uint32(esp[4:])}]++
}

// faults tells which pairs of key and sequence number were sent twice, and what
// leaves no ground to say that none was.
func (r *recorder) faults() (faults []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, times := range r.seen {
		if times > 1 {
			faults = append(faults, fmt.Sprintf("key %x: sequence number %d was sent %d times", s.key, s.seq, times))
		}
	}
	if r.strangers > 0 {
		faults = append(faults, fmt.Sprintf("%d ESP packets had an SPI that no device asked for", r.strangers))
	}
	if len(r.seen) == 0 {
		faults = append(faults, "no ESP packet was seen")
	}
	return faults
}

func (r *recorder) verify(t *testing.T) {
	t.Helper()
	for _, fault := range r.faults() {
		t.Error(fault)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Logf("%d ESP packets under %d keys, each pair of key and sequence number once", len(r.seen), len(r.keys))
}
