package main

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"

	"github.com/roamgate/roamgate/control/ikecrypto"
)

// keyPairs are made before anything is measured, each for one handshake. The zero
// value has none.
type keyPairs struct {
	group uint16
	list  []ikecrypto.KeyExchange
	taken atomic.Uint64
}

// make as many more, of the group of a suite.
func (k *keyPairs) make(s ikecrypto.Suite, n uint64, say func(string)) error {
	k.group = s.Group
	for i := range n {
		kx, err := s.Allow.NewKeyExchange(s.Group, rand.Reader)
		if err != nil {
			return err
		}
		k.list = append(k.list, kx)
		if i%1000 == 999 {
			say(fmt.Sprintf("key pairs: %d of %d", i+1, n))
		}
	}
	return nil
}

// next one of a group, nil if there is none. It may be called from any goroutine.
func (k *keyPairs) next(group uint16) ikecrypto.KeyExchange {
	if group != k.group || k.taken.Load() >= uint64(len(k.list)) {
		return nil
	}
	i := k.taken.Add(1) - 1
	if i >= uint64(len(k.list)) {
		return nil
	}
	kx := k.list[i]
	k.list[i] = nil // it is one handshake's
	return kx
}

// agree has a key pair made for as many handshakes as there are devices. Who begins
// later makes its own.
func (f *fleet) agree(say func(string)) error {
	suites, err := f.profile.Suites()
	if err != nil {
		return err
	}
	return f.pairs.make(suites[0], f.devices, say)
}
