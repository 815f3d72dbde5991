package ikecrypto

import (
	"fmt"

	"github.com/roamgate/roamgate/control/ikewire"
)

// MaxFragments of one message, sent or received. 64 of 576-octet datagrams
// carry about 32 KiB.
const MaxFragments = 64

// Octets of an SKF payload before its body: generic header, fragment number,
// total fragments (RFC 7383 section 2.5).
const fragmentHeaderLen = ikewire.PayloadHeaderLen + 4

// Fragment is the content of an SKF payload that was opened (RFC 7383 section
// 2.5).
type Fragment struct {
	// Number counts from 1 to Total.
	Number, Total uint16
	// First is the type of the first payload of the message; only number 1
	// tells it.
	First ikewire.PayloadType
	// Data is this fragment's part of the encoded payloads, in memory of its
	// own.
	Data []byte
}

func (p *protector) SealFragments(m *ikewire.Message, inner []ikewire.Payload, size int) ([][]byte, error) {
	if p.transform == nil {
		return nil, ErrErased
	}
	d := newDraft()
	defer d.release()
	first, content, err := ikewire.AppendPayloads(d.content[:0], inner)
	if err != nil {
		return nil, err
	}
	head, err := m.Append(d.body[:0])
	if err != nil {
		return nil, err
	}
	if len(content) <= p.room(size-len(head)-ikewire.PayloadHeaderLen) {
		one, err := p.seal(nil, m, ikewire.Encrypted{First: first}, content, d)
		if err != nil {
			return nil, err
		}
		return [][]byte{one}, nil
	}
	parts, err := split(content,
		p.room(size-len(head)-fragmentHeaderLen),
		p.room(size-ikewire.HeaderLen-fragmentHeaderLen))
	if err != nil {
		return nil, err
	}
	fragments := make([][]byte, 0, len(parts))
	for i, part := range parts {
		sk := ikewire.Encrypted{First: first, Fragment: uint16(i + 1), Total: uint16(len(parts))}
		fragment, err := p.seal(nil, m, sk, part, d)
		if err != nil {
			return nil, err
		}
		fragments = append(fragments, fragment)
		// Cleartext payloads and the type of the first payload inside belong to
		// the first fragment only (RFC 7383 sections 2.5 and 2.5.3).
		m, first = &ikewire.Message{Header: m.Header}, ikewire.PayloadNone
	}
	return fragments, nil
}

// room is how many octets of content an encrypted payload with a body of n
// octets can hold; less than 1 if there is none.
func (p *protector) room(n int) int {
	iv, align, icv := p.transform.lens()
	if n -= iv + icv; n < align {
		return 0
	}
	return n/align*align - 1 // the pad length
}

// split cuts content into a part of at most first octets and others of at most
// rest, all but the last of them full.
func split(content []byte, first, rest int) ([][]byte, error) {
	if first < 1 || rest < 1 {
		return nil, fmt.Errorf("%w: no room for content", ErrFragmentSize)
	}
	var parts [][]byte
	for room := first; len(content) > 0; room = rest {
		if len(parts) == MaxFragments {
			return nil, fmt.Errorf("%w: more than %d", ErrFragmentSize, MaxFragments)
		}
		n := min(room, len(content))
		parts = append(parts, content[:n])
		content = content[n:]
	}
	return parts, nil
}

func (p *protector) OpenFragment(raw []byte, m *ikewire.Message) (Fragment, error) {
	sk, err := fragment(raw, m)
	if err != nil {
		return Fragment{}, err
	}
	data, err := p.open(raw, sk)
	if err != nil {
		return Fragment{}, err
	}
	return Fragment{Number: sk.Fragment, Total: sk.Total, First: sk.First, Data: data}, nil
}

// fragment finds the SKF payload of m.
func fragment(raw []byte, m *ikewire.Message) (*ikewire.Encrypted, error) {
	sk, err := encrypted(raw, m)
	if err != nil {
		return nil, err
	}
	if sk.Type() != ikewire.PayloadFragment {
		return nil, ErrNotFragment
	}
	return sk, nil
}
