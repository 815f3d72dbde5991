// Package inventorytest has an inventory.Store in memory, and the suite that
// every inventory.Store passes.
package inventorytest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
)

// Memory is an inventory.Store that forgets everything at the end.
type Memory struct {
	mu        sync.Mutex
	snapshots map[string][]byte // JSON, as in a database
	history   map[string][]inventory.Change
	number    int64
}

var _ inventory.Store = (*Memory)(nil)

// NewMemory is empty.
func NewMemory() *Memory {
	return &Memory{snapshots: map[string][]byte{}, history: map[string][]inventory.Change{}}
}

// Snapshot implements inventory.Store.
func (m *Memory) Snapshot(_ context.Context, device string) (inventory.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot(device)
}

func (m *Memory) snapshot(device string) (s inventory.Snapshot, err error) {
	if text := m.snapshots[device]; text != nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// Put implements inventory.Store.
func (m *Memory) Put(_ context.Context, device string, s inventory.Snapshot, changes []inventory.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, err := m.snapshot(device)
	if err != nil {
		return err
	}
	want := old.Version
	if len(changes) > 0 {
		want++
	}
	if s.Version != want {
		return fmt.Errorf("device %q: version %d after %d: %w", device, s.Version, old.Version, inventory.ErrChanged)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	m.snapshots[device] = text
	for _, c := range changes {
		m.number++
		c.Number = m.number
		m.history[device] = append(m.history[device], c)
	}
	return nil
}

// History implements inventory.Store.
func (m *Memory) History(_ context.Context, device string, before int64, n int) ([]inventory.Change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []inventory.Change
	for _, c := range slices.Backward(m.history[device]) {
		if len(out) < n && (before == 0 || c.Number < before) {
			out = append(out, c)
		}
	}
	return out, nil
}

// Prune implements inventory.Store.
func (m *Memory) Prune(_ context.Context, before time.Time, n int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	done := 0
	for device, all := range m.history {
		m.history[device] = slices.DeleteFunc(all, func(c inventory.Change) bool {
			old := done < n && c.At.Before(before)
			if old {
				done++
			}
			return old
		})
	}
	return done, nil
}
