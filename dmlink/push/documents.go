package push

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// Deltas that are kept of a section, for gateways that were away. Beyond that
// they get a snapshot.
const (
	maxDeltas      = 8192
	maxDeltaOctets = 64 << 20
)

// Documents are the sections as they were committed, with their recent past. Its
// methods are safe for concurrent use.
type Documents struct {
	sections map[gcm.Section]*document
}

type document struct {
	mu     sync.Mutex
	set    *gcm.Set
	deltas []delta
	octets int
	// cached is of the version that it says, and is made when somebody needs
	// it.
	cached *encoded
	// changed is closed by the next commit.
	changed chan struct{}
	// at is when it was committed last, or read, as far as is known here.
	at time.Time
}

// encoded is a document in wire form.
type encoded struct {
	version gcm.Version
	hash    gcm.Hash
	octets  []byte
	// at is when it was committed.
	at time.Time
}

// delta as it was committed.
type delta struct {
	base gcm.Hash
	encoded
	// added says of each record that it puts whether nothing was under its key
	// before.
	added []bool
}

// NewDocuments begins with what was committed: sets, at most one for each
// section, that are the Documents' from now on. A section that is missing is
// empty and of the zero version: gateways aren't told of it.
func NewDocuments(sets ...*gcm.Set) (*Documents, error) {
	d := &Documents{sections: map[gcm.Section]*document{}}
	for _, s := range sets {
		if _, twice := d.sections[s.Section()]; twice {
			return nil, fmt.Errorf("%w: two sets of %s", gcm.ErrMalformed, s.Section())
		}
		d.sections[s.Section()] = &document{set: s, changed: make(chan struct{}), at: time.Now()}
	}
	for _, section := range gcm.Sections {
		if d.sections[section] == nil {
			s, err := gcm.NewSet(section)
			if err != nil {
				return nil, err
			}
			d.sections[section] = &document{set: s, changed: make(chan struct{}), at: time.Now()}
		}
	}
	return d, nil
}

// Commit tells of a change that is committed where the documents are kept. The
// version was drawn in that transaction, and commits come in the order of their
// versions; numbers may be missing. Errors: those of gcm.Set.Commit.
func (d *Documents) Commit(section gcm.Section, v gcm.Version, put []gcm.Record, del [][]byte) error {
	doc, ok := d.sections[section]
	if !ok {
		return fmt.Errorf("%w: no section %q", gcm.ErrMalformed, section)
	}
	doc.mu.Lock()
	defer doc.mu.Unlock()
	there := make(map[string]bool, len(put))
	for _, r := range put {
		_, there[string(r.Key)] = doc.set.Get(r.Key)
	}
	change, err := doc.set.Commit(v, put, del)
	if err != nil {
		return err
	}
	return doc.changedBy(change, func(key []byte) bool { return there[string(key)] })
}

// Replace a section by the content that was committed last, for who missed the
// changes in between. The set is the Documents' from now on. Error: ErrStale if
// its version isn't newer.
func (d *Documents) Replace(set *gcm.Set) error {
	doc := d.sections[set.Section()]
	doc.mu.Lock()
	defer doc.mu.Unlock()
	if set.Version().Compare(doc.set.Version()) <= 0 {
		return fmt.Errorf("%w: %v, here is %v", gcm.ErrStale, set.Version(), doc.set.Version())
	}
	before := doc.set
	change := before.Diff(set)
	doc.set = set
	return doc.changedBy(change, func(key []byte) bool { _, there := before.Get(key); return there })
}

// changedBy tells gateways. there says whether something was under a key before.
// The document is under its mutex.
func (doc *document) changedBy(change gcm.Delta, there func(key []byte) bool) error {
	var b bytes.Buffer
	if err := gcm.WriteDelta(&b, change); err != nil {
		return err
	}
	added := make([]bool, len(change.Put))
	for n, r := range change.Put {
		added[n] = !there(r.Key)
	}
	doc.at = time.Now()
	doc.remember(delta{change.Base, encoded{change.Version, change.Hash, b.Bytes(), doc.at}, added})
	doc.cached = nil
	close(doc.changed)
	doc.changed = make(chan struct{})
	return nil
}

// remember a delta. One that is too long for the wire is a gap: those before it
// lead nowhere.
func (doc *document) remember(d delta) {
	// Ticket keys of the past aren't kept, and all there are now are soon sent.
	if len(d.octets) > gcm.MaxDelta || doc.set.Section() == gcm.Tickets {
		doc.deltas, doc.octets = nil, 0
		return
	}
	doc.deltas = append(doc.deltas, d)
	doc.octets += len(d.octets)
	for len(doc.deltas) > maxDeltas || doc.octets > maxDeltaOctets {
		doc.octets -= len(doc.deltas[0].octets)
		doc.deltas[0] = delta{}
		doc.deltas = doc.deltas[1:]
	}
}

// Version and hash of a section, and a channel that is closed when there is
// something newer.
func (d *Documents) Version(section gcm.Section) (gcm.Version, gcm.Hash, <-chan struct{}) {
	doc := d.sections[section]
	doc.mu.Lock()
	defer doc.mu.Unlock()
	return doc.set.Version(), doc.set.Hash(), doc.changed
}

// Len is how many records a section has.
func (d *Documents) Len(section gcm.Section) int {
	doc := d.sections[section]
	doc.mu.Lock()
	defer doc.mu.Unlock()
	return doc.set.Len()
}

// Has says whether a section has a record under a key.
func (d *Documents) Has(section gcm.Section, key []byte) bool {
	doc := d.sections[section]
	doc.mu.Lock()
	defer doc.mu.Unlock()
	_, ok := doc.set.Get(key)
	return ok
}

// since are the deltas that lead from what a gateway has to what was committed
// last; false if they aren't there any more, or would be longer than all.
func (d *Documents) since(section gcm.Section, v gcm.Version, h gcm.Hash) ([]delta, bool) {
	doc := d.sections[section]
	doc.mu.Lock()
	defer doc.mu.Unlock()
	if h == doc.set.Hash() {
		// It went elsewhere and came back, or only the version is new.
		var b bytes.Buffer
		if gcm.WriteDelta(&b, gcm.Delta{Section: section, Base: h, Hash: h, Version: doc.set.Version()}) != nil {
			return nil, false
		}
		return []delta{{h, encoded{doc.set.Version(), h, b.Bytes(), doc.at}, nil}}, true
	}
	for n := len(doc.deltas) - 1; n >= 0; n-- {
		if doc.deltas[n].base != h || doc.deltas[n].version.Compare(v) <= 0 {
			continue
		}
		return slices.Clone(doc.deltas[n:]), true
	}
	return nil, false
}

// behind is since when there is something newer than a version, as far back as is
// known here.
func (d *Documents) behind(section gcm.Section, v gcm.Version) time.Time {
	doc := d.sections[section]
	doc.mu.Lock()
	defer doc.mu.Unlock()
	n, _ := slices.BinarySearchFunc(doc.deltas, v, func(e delta, v gcm.Version) int {
		if e.version.Compare(v) <= 0 {
			return -1
		}
		return 1
	})
	if n < len(doc.deltas) {
		return doc.deltas[n].at
	}
	return doc.at
}

// snapshot of a section as it is now. Gateways that need the same one share it.
func (d *Documents) snapshot(section gcm.Section) (encoded, error) {
	doc := d.sections[section]
	doc.mu.Lock()
	if doc.cached != nil {
		defer doc.mu.Unlock()
		return *doc.cached, nil
	}
	// The copy costs a moment, its encoding much more: commits don't wait for
	// that.
	set, at := doc.set.Clone(), doc.at
	doc.mu.Unlock()
	var b bytes.Buffer
	if err := gcm.WriteSnapshot(&b, set); err != nil {
		return encoded{}, err
	}
	if b.Len() > gcm.MaxSnapshot {
		return encoded{}, fmt.Errorf("%w: %s has %d octets, at most %d", gcm.ErrTooLarge, section, b.Len(), gcm.MaxSnapshot)
	}
	e := encoded{set.Version(), set.Hash(), b.Bytes(), at}
	doc.mu.Lock()
	defer doc.mu.Unlock()
	if doc.set.Version() == e.version {
		doc.cached = &e
	}
	return e, nil
}
