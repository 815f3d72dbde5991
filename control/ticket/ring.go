package ticket

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	version   = 1
	headLen   = 1 + len(KeyID{})
	minTicket = headLen + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	// MaxLen of a ticket in octets. One of ours has about 400; the longest
	// contents fit.
	MaxLen = 4096
)

// Serial tells tickets apart: a part of the nonce, so that it is as random.
type Serial uint64

// Ring is where keys are in use. It is safe for concurrent use; Replace waits
// for those who are sealing or opening, so that it can erase.
type Ring struct {
	mu   sync.RWMutex
	keys Keys
}

// NewRing takes the keys over.
func NewRing(k Keys) *Ring { return &Ring{keys: k} }

// Replace takes a whole new set over and erases the one before it.
func (r *Ring) Replace(k Keys) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys.Erase()
	r.keys = k
}

// Keys returns a copy, to be erased.
func (r *Ring) Keys() Keys {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys.Clone()
}

// Seal makes a ticket. Errors: ErrNoKey, ErrContents, those of rand.
func (r *Ring) Seal(now time.Time, c *Contents, rand io.Reader) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	key := r.keys.at(now)
	if key == nil {
		return nil, ErrNoKey
	}
	out := make([]byte, headLen+chacha20poly1305.NonceSizeX, 512)
	out[0] = version
	copy(out[1:], key.ID[:])
	nonce := out[headLen:]
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key.Secret[:])
	if err != nil {
		return nil, err
	}
	plain := c.append(make([]byte, 0, 512))
	defer clear(plain)
	return aead.Seal(out, nonce, plain, out[:headLen]), nil
}

// Open reads a ticket that a stranger sent. Contents.SkD is to be erased.
// Errors: ErrMalformed, ErrUnknownKey, ErrForged, ErrExpired.
func (r *Ring) Open(now time.Time, ticket []byte) (*Contents, Serial, error) {
	if len(ticket) < minTicket || len(ticket) > MaxLen || ticket[0] != version {
		return nil, 0, ErrMalformed
	}
	plain, err := r.unseal(ticket)
	if err != nil {
		return nil, 0, err
	}
	c, err := decode(plain)
	if err != nil {
		clear(plain)
		return nil, 0, err
	}
	if !now.Before(c.Expires) {
		clear(plain)
		return nil, 0, ErrExpired
	}
	return c, Serial(binary.BigEndian.Uint64(ticket[headLen:])), nil
}

func (r *Ring) unseal(ticket []byte) ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	key := r.keys.find(KeyID(ticket[1:headLen]))
	if key == nil {
		return nil, ErrUnknownKey
	}
	aead, err := chacha20poly1305.NewX(key.Secret[:])
	if err != nil {
		return nil, err
	}
	nonce := ticket[headLen : headLen+chacha20poly1305.NonceSizeX]
	plain, err := aead.Open(nil, nonce, ticket[headLen+len(nonce):], ticket[:headLen])
	if err != nil {
		return nil, ErrForged
	}
	return plain, nil
}
