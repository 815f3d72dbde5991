package push

import (
	"bytes"
	"slices"

	"github.com/roamgate/roamgate/control/gcm"
)

// maxBatch is how many octets of deltas become one document for a gateway that
// was away: it writes each to its disk by itself.
const maxBatch = 1 << 20

// batch makes one delta of the first of those that follow each other, and says
// which are left.
func batch(all []delta) (encoded, []delta, error) {
	n := 1
	for octets := len(all[0].octets); n < len(all); n++ {
		if octets += len(all[n].octets); octets > maxBatch {
			break
		}
	}
	if n == 1 {
		return all[0].encoded, all[1:], nil
	}
	e, err := merge(all[:n])
	return e, all[n:], err
}

// merge deltas that follow each other: it leads from where the first begins to
// where the last does.
func merge(all []delta) (encoded, error) {
	type fate struct {
		there bool // before the first of them
		value []byte
		gone  bool
	}
	fates := map[string]fate{}
	to := func(key, value []byte, gone, there bool) {
		if had, known := fates[string(key)]; known {
			there = had.there
		}
		fates[string(key)] = fate{there, value, gone}
	}
	last := all[len(all)-1]
	one := gcm.Delta{Base: all[0].base, Version: last.version, Hash: last.hash}
	for _, step := range all {
		d, err := gcm.ReadDelta(bytes.NewReader(step.octets))
		if err != nil {
			return encoded{}, err
		}
		one.Section = d.Section
		for n, r := range d.Put {
			to(r.Key, r.Value, false, !step.added[n])
		}
		for _, k := range d.Delete {
			to(k, nil, true, true)
		}
	}
	for key, f := range fates {
		switch {
		case !f.gone:
			one.Put = append(one.Put, gcm.Record{Key: []byte(key), Value: f.value})
		case f.there:
			one.Delete = append(one.Delete, []byte(key))
		}
	}
	slices.SortFunc(one.Put, func(a, b gcm.Record) int { return bytes.Compare(a.Key, b.Key) })
	slices.SortFunc(one.Delete, bytes.Compare)
	var b bytes.Buffer
	err := gcm.WriteDelta(&b, one)
	return encoded{last.version, last.hash, b.Bytes(), all[0].at}, err
}
