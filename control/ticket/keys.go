package ticket

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// KeyID names a key in the clear.
type KeyID [8]byte

// String is 16 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// Key seals tickets from From on, until the next one does.
type Key struct {
	ID   KeyID
	From time.Time
	// Keep is how long it opens after that, in whole seconds: the longest lifetime
	// that a gateway with this key may have given to a ticket.
	Keep   time.Duration
	Secret [32]byte
}

// Schedule of keys.
type Schedule struct {
	// Period is how long a key seals.
	Period time.Duration
	// Keep is how long it opens after that at least: the lifetime of this
	// gateway's tickets. Another one's, by the same keys, may be longer.
	Keep time.Duration
}

// Keys is what a gateway has, oldest first. It isn't changed once it is made,
// but for Erase.
type Keys []Key

// maxKeys of a set that is read: far more than any schedule has.
const maxKeys = 4096

// Advance returns the keys there should be at a time: those that may be needed
// to open, the one that seals now, and the one that seals next, made if they are
// missing. changed says whether that is another set than k. What is kept shares
// no memory with k. Errors: those of rand.
func (k Keys) Advance(now time.Time, s Schedule, rand io.Reader) (next Keys, changed bool, err error) {
	now = now.Truncate(time.Second)
	keep := (s.Keep + time.Second - 1).Truncate(time.Second)
	for i, key := range k {
		// It sealed until the key after it began.
		sealed := key.From.Add(s.Period)
		if i+1 < len(k) && k[i+1].From.After(key.From) {
			sealed = k[i+1].From
		}
		if now.Before(sealed) && key.Keep < keep {
			key.Keep, changed = keep, true
		}
		if now.Before(sealed.Add(key.Keep)) {
			next = append(next, key)
		}
	}
	changed = changed || len(next) != len(k)
	if next.at(now) == nil || !now.Before(next.at(now).From.Add(s.Period)) && !next.after(now) {
		if next, err = next.add(now, keep, rand); err != nil {
			return nil, false, err
		}
		changed = true
	}
	if !next.after(now) {
		if next, err = next.add(next.at(now).From.Add(s.Period), keep, rand); err != nil {
			return nil, false, err
		}
		changed = true
	}
	return next, changed, nil
}

func (k Keys) add(from time.Time, keep time.Duration, rand io.Reader) (Keys, error) {
	key := Key{From: from, Keep: keep}
	for _, b := range [][]byte{key.ID[:], key.Secret[:]} {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("draw a ticket key: %w", err)
		}
	}
	i := slices.IndexFunc(k, func(other Key) bool { return other.From.After(from) })
	if i < 0 {
		i = len(k)
	}
	return slices.Insert(k, i, key), nil // in front of another one only if the clock went back
}

// at is the key that seals at a time, nil if none does.
func (k Keys) at(now time.Time) *Key {
	for i := len(k) - 1; i >= 0; i-- {
		if !k[i].From.After(now) {
			return &k[i]
		}
	}
	return nil
}

// after says whether there is a key for later.
func (k Keys) after(now time.Time) bool { return len(k) > 0 && k[len(k)-1].From.After(now) }

func (k Keys) find(id KeyID) *Key {
	for i := range k {
		if k[i].ID == id {
			return &k[i]
		}
	}
	return nil
}

// Clone shares no memory.
func (k Keys) Clone() Keys { return slices.Clone(k) }

// Erase zeroes all secrets.
func (k Keys) Erase() {
	for i := range k {
		clear(k[i].Secret[:])
	}
}

// keysHeader is the first line of a set in text.
const keysHeader = "roamgate ticket keys 2\n"

// Append writes the set as text: a header, then a key a line, its ID, the time
// from which it seals, for how many seconds it opens after that, and its secret;
// ID and secret in hexadecimal.
func (k Keys) Append(b []byte) []byte {
	b = append(b, keysHeader...)
	for _, key := range k {
		b = hex.AppendEncode(b, key.ID[:])
		b = append(b, ' ')
		b = key.From.UTC().AppendFormat(b, time.RFC3339)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(key.Keep/time.Second), 10)
		b = append(b, ' ')
		b = hex.AppendEncode(b, key.Secret[:])
		b = append(b, '\n')
	}
	return b
}

// ParseKeys reads what Append wrote, strictly. Errors: ErrKeys, with the line
// and without what is in it.
func ParseKeys(text []byte) (k Keys, err error) {
	defer func() {
		if err != nil {
			k.Erase()
			k = nil
		}
	}()
	rest, ok := bytes.CutPrefix(text, []byte(keysHeader))
	if !ok {
		return nil, fmt.Errorf("%w: line 1 is not %q", ErrKeys, keysHeader[:len(keysHeader)-1])
	}
	for line := 2; len(rest) > 0; line++ {
		var row []byte
		row, rest, ok = bytes.Cut(rest, []byte{'\n'})
		if !ok {
			return k, fmt.Errorf("%w: line %d is cut off", ErrKeys, line)
		}
		fields := bytes.Split(row, []byte{' '})
		var key Key
		if len(fields) != 4 || len(fields[0]) != 2*len(key.ID) || len(fields[3]) != 2*len(key.Secret) {
			return k, fmt.Errorf("%w: line %d is not ID, time, seconds and secret", ErrKeys, line)
		}
		_, errID := hex.Decode(key.ID[:], fields[0])
		_, errSecret := hex.Decode(key.Secret[:], fields[3])
		from, errFrom := time.Parse(time.RFC3339, string(fields[1]))
		seconds, errKeep := strconv.ParseUint(string(fields[2]), 10, 31)
		key.From, key.Keep = from, time.Duration(seconds)*time.Second
		switch {
		case errID != nil || errSecret != nil || errFrom != nil || errKeep != nil:
			return k, fmt.Errorf("%w: line %d is not ID, time, seconds and secret", ErrKeys, line)
		case len(k) > 0 && key.From.Before(k[len(k)-1].From):
			return k, fmt.Errorf("%w: line %d is out of order", ErrKeys, line)
		case k.find(key.ID) != nil:
			return k, fmt.Errorf("%w: line %d repeats an ID", ErrKeys, line)
		case len(k) == maxKeys:
			return k, fmt.Errorf("%w: more than %d", ErrKeys, maxKeys)
		}
		k = append(k, key)
	}
	return k, nil
}

// Same says whether two sets have the same keys.
func (k Keys) Same(other Keys) bool {
	return slices.EqualFunc(k, other, func(a, b Key) bool {
		return a.ID == b.ID && a.From.Equal(b.From) && a.Keep == b.Keep && a.Secret == b.Secret
	})
}
