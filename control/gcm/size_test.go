package gcm

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestSoakSize measures a million authorisations.
func TestSoakSize(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("set ROAMGATE_SOAK to measure a million authorisations")
	}
	const devices = 1 << 20
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s, err := NewSet(Devices)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for n := range devices {
		r := Authorisation{Device: fmt.Sprintf("device-%07d", n), Group: "staff", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}}.Record()
		if _, err := s.Commit(Version{1, uint64(n) + 1}, []Record{r}, nil); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	after := heap()
	began = time.Now()
	runtime.GC()
	gc := time.Since(began)
	began = time.Now()
	const revocations = 1000
	for n := range revocations {
		r := Revocation{Serial: fmt.Sprintf("\x01%d", n), At: time.Now()}.Record()
		if _, err := s.Commit(Version{2, uint64(n) + 1}, []Record{r}, [][]byte{DeviceKey(fmt.Sprintf("device-%07d", n))}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d records: %d octets each, made at %v each, a collection %v, a revocation %v", s.Len(), (after-before)/devices, took/devices, gc, time.Since(began)/revocations)
	runtime.KeepAlive(s)
}
