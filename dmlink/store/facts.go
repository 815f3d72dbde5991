package store

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/roamgate/roamgate/dmlink/policy"
)

// The facts of an inventory are stored beside the snapshot, for filters, which
// read few nodes of many devices: compressed, and in it how many nodes there are,
// these, and the software, each a length and the octets of the name and of the
// value. What isn't read is passed over without being decoded.

func packFacts(nodes, software map[string]string) ([]byte, error) {
	plain := binary.AppendUvarint(nil, uint64(len(nodes)))
	for _, m := range []map[string]string{nodes, software} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			for _, s := range []string{name, m[name]} {
				plain = append(binary.AppendUvarint(plain, uint64(len(s))), s...)
			}
		}
	}
	return deflate(plain)
}

// wantedFacts is what is read.
type wantedFacts struct {
	uris          map[string]bool
	all, software bool
}

func newWanted(r policy.Reading) *wantedFacts {
	w := &wantedFacts{uris: make(map[string]bool, len(r.URIs)), all: r.All}
	for _, uri := range r.URIs {
		w.uris[uri] = true
	}
	w.software = w.uris[policy.SoftwareFact]
	return w
}

func (w *wantedFacts) facts(packed []byte) (nodes, software map[string]string, err error) {
	plain, err := inflate(packed, maxPacked)
	if err != nil {
		return nil, nil, err
	}
	next := func() []byte {
		n, size := binary.Uvarint(plain)
		if size <= 0 || n > uint64(len(plain)-size) {
			err = fmt.Errorf("%w: stored facts end in the middle", ErrInvalid)
			return nil
		}
		s := plain[size : size+int(n)]
		plain = plain[size+int(n):]
		return s
	}
	left, size := binary.Uvarint(plain)
	if size <= 0 {
		return nil, nil, fmt.Errorf("%w: stored facts have no beginning", ErrInvalid)
	}
	plain = plain[size:]
	nodes, software = map[string]string{}, map[string]string{}
	for ; left > 0 && err == nil; left-- {
		if name, value := next(), next(); w.all || w.uris[string(name)] {
			nodes[string(name)] = string(value)
		}
	}
	for w.software && len(plain) > 0 && err == nil {
		name, value := next(), next()
		software[string(name)] = string(value)
	}
	if err != nil {
		return nil, nil, err
	}
	return nodes, software, nil
}
