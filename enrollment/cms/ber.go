package cms

import (
	"encoding/binary"
	"fmt"
)

// Bounds of what is read.
const (
	// MaxSize of a message in octets.
	MaxSize = 64 << 10
	// maxDepth of nested values. A SCEP request has 16.
	maxDepth = 32
)

const (
	constructed  = 0x20
	octetString  = 0x04
	longTag      = 0x1f
	endOfContent = 0x00
)

// toDER rewrites BER (X.690 section 8) with definite lengths in their shortest
// form and with primitive octet strings. Other rules of DER, such as the order
// of sets, are left as they are: signatures cover what was sent.
func toDER(ber []byte) ([]byte, error) {
	if len(ber) > MaxSize {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrFormat, len(ber), MaxSize)
	}
	der, rest, err := readValue(nil, ber, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d octets too many", ErrFormat, len(rest))
	}
	return der, nil
}

// readValue appends the first value of ber to out and returns what follows it.
func readValue(out, ber []byte, depth int) (_, rest []byte, err error) {
	if depth > maxDepth {
		return nil, nil, fmt.Errorf("%w: more than %d levels", ErrFormat, maxDepth)
	}
	tag, content, rest, indefinite, err := readHeader(ber)
	if err != nil {
		return nil, nil, err
	}
	if tag&constructed == 0 {
		return append(appendHeader(out, tag, len(content)), content...), rest, nil
	}
	var inner []byte
	pieces := tag == octetString|constructed
	for {
		if indefinite {
			if len(content) < 2 {
				return nil, nil, fmt.Errorf("%w: ends inside a value", ErrFormat)
			}
			if content[0] == endOfContent && content[1] == 0 {
				rest = content[2:]
				break
			}
		} else if len(content) == 0 {
			break
		}
		start := len(inner)
		if inner, content, err = readValue(inner, content, depth+1); err != nil {
			return nil, nil, err
		}
		if pieces {
			// A piece is an octet string, by now a primitive one.
			if inner[start] != octetString {
				return nil, nil, fmt.Errorf("%w: an octet string of other things", ErrFormat)
			}
			_, piece, _, _, err := readHeader(inner[start:])
			if err != nil {
				return nil, nil, err
			}
			inner = append(inner[:start], piece...)
		}
	}
	if pieces {
		tag = octetString
	}
	return append(appendHeader(out, tag, len(inner)), inner...), rest, nil
}

// readHeader splits off the first value. The content of one with an indefinite
// length goes to the end of ber, its end is for the caller to find.
func readHeader(ber []byte) (tag byte, content, rest []byte, indefinite bool, err error) {
	if len(ber) < 2 {
		return 0, nil, nil, false, fmt.Errorf("%w: ends inside a value", ErrFormat)
	}
	tag = ber[0]
	if tag&longTag == longTag || tag == endOfContent {
		return 0, nil, nil, false, fmt.Errorf("%w: tag %#x", ErrFormat, tag)
	}
	length, ber := uint64(ber[1]), ber[2:]
	switch {
	case length == 0x80:
		if tag&constructed == 0 {
			return 0, nil, nil, false, fmt.Errorf("%w: a primitive value without a length", ErrFormat)
		}
		return tag, ber, nil, true, nil
	case length > 0x80:
		n := int(length - 0x80)
		if n > 8 || n > len(ber) {
			return 0, nil, nil, false, fmt.Errorf("%w: length of %d octets", ErrFormat, n)
		}
		var wide [8]byte
		copy(wide[8-n:], ber[:n])
		length, ber = binary.BigEndian.Uint64(wide[:]), ber[n:]
	}
	if length > uint64(len(ber)) {
		return 0, nil, nil, false, fmt.Errorf("%w: ends inside a value", ErrFormat)
	}
	return tag, ber[:length], ber[length:], false, nil
}

func appendHeader(out []byte, tag byte, length int) []byte {
	out = append(out, tag)
	switch {
	case length < 1<<7:
		return append(out, byte(length))
	case length < 1<<8:
		return append(out, 0x81, byte(length))
	case length < 1<<16:
		return append(out, 0x82, byte(length>>8), byte(length))
	}
	return append(out, 0x83, byte(length>>16), byte(length>>8), byte(length))
}
