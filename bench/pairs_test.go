package main

import (
	"bytes"
	"sync"
	"testing"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
)

// Each key pair serves one handshake, whoever asks at the same time; another group
// gets none, and neither does who comes late.
func TestKeyPairs(t *testing.T) {
	var none keyPairs
	if none.next(ikewire.GroupCurve25519) != nil || none.next(0) != nil {
		t.Error("pairs that nobody made")
	}
	const n = 50
	var k keyPairs
	if err := k.make(ikecrypto.Suite{Group: ikewire.GroupCurve25519}, n, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if k.next(ikewire.GroupECP256) != nil {
		t.Error("a pair of another group")
	}
	var (
		mu   sync.Mutex
		seen = make(map[string]bool)
		wg   sync.WaitGroup
	)
	for range 4 {
		wg.Go(func() {
			for range n {
				kx := k.next(ikewire.GroupCurve25519)
				if kx == nil {
					continue
				}
				mu.Lock()
				if public := string(kx.Public()); seen[public] {
					t.Error("a pair came twice")
				} else {
					seen[public] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != n || seen[string(bytes.Repeat([]byte{0}, 32))] {
		t.Errorf("%d pairs, want %d", len(seen), n)
	}
}
