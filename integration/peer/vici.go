package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Packet types of VICI, charon's control protocol: a length of four octets,
// the type, a name where the type has one, and a message.
const (
	viciRequest       = 0
	viciResponse      = 1
	viciRegister      = 3
	viciConfirmation  = 5
	viciEvent         = 7
	viciLargestPacket = 512 << 10
)

// Elements of a VICI message.
const (
	viciSectionStart = 1
	viciSectionEnd   = 2
	viciKeyValue     = 3
	viciListStart    = 4
	viciListItem     = 5
	viciListEnd      = 6
)

var errVICI = errors.New("malformed VICI message")

// section of a VICI message: values are string, []string or section, keys in
// the order of the message.
type section struct {
	keys   []string
	values map[string]any
}

func newSection() section { return section{values: map[string]any{}} }

func (s *section) set(key string, value any) {
	s.keys = append(s.keys, key)
	s.values[key] = value
}

func (s section) text(key string) string {
	v, _ := s.values[key].(string)
	return v
}

func (s section) list(key string) []string {
	v, _ := s.values[key].([]string)
	return v
}

func (s section) section(key string) section {
	v, _ := s.values[key].(section)
	return v
}

type viciConn struct{ c net.Conn }

func dialVICI(path string) (*viciConn, error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	return &viciConn{c}, c.SetDeadline(time.Now().Add(10 * time.Second))
}

func (v *viciConn) Close() error { return v.c.Close() }

// stream carries out a command that answers by events and returns these.
func (v *viciConn) stream(command, event string) ([]section, error) {
	if err := v.send(viciRegister, event); err != nil {
		return nil, err
	}
	if kind, _, err := v.receive(); err != nil || kind != viciConfirmation {
		return nil, fmt.Errorf("registering for %s: packet type %d: %w", event, kind, err)
	}
	if err := v.send(viciRequest, command); err != nil {
		return nil, err
	}
	var events []section
	for {
		kind, message, err := v.receive()
		switch {
		case err != nil:
			return nil, err
		case kind == viciResponse:
			return events, nil
		case kind == viciEvent:
			events = append(events, message)
		default:
			return nil, fmt.Errorf("%s: packet type %d", command, kind)
		}
	}
}

func (v *viciConn) send(kind byte, name string) error {
	packet := binary.BigEndian.AppendUint32(nil, uint32(2+len(name)))
	packet = append(packet, kind, byte(len(name)))
	_, err := v.c.Write(append(packet, name...))
	return err
}

func (v *viciConn) receive() (kind byte, message section, err error) {
	var head [4]byte
	if _, err := io.ReadFull(v.c, head[:]); err != nil {
		return 0, section{}, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 1 || size > viciLargestPacket {
		return 0, section{}, fmt.Errorf("%w: %d octets", errVICI, size)
	}
	packet := make([]byte, size)
	if _, err := io.ReadFull(v.c, packet); err != nil {
		return 0, section{}, err
	}
	p := viciParser{rest: packet[1:]}
	if packet[0] == viciEvent {
		p.name()
	}
	message = p.section(false)
	return packet[0], message, p.err
}

type viciParser struct {
	rest []byte
	err  error
}

func (p *viciParser) take(n int) []byte {
	if p.err != nil || n > len(p.rest) {
		p.err = errVICI
		p.rest = nil
		return make([]byte, n)
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *viciParser) name() string  { return string(p.take(int(p.take(1)[0]))) }
func (p *viciParser) value() string { return string(p.take(int(binary.BigEndian.Uint16(p.take(2))))) }

// section reads up to its end, which for the outermost one is the message's.
func (p *viciParser) section(inner bool) section {
	s := newSection()
	for p.err == nil {
		if len(p.rest) == 0 && !inner {
			return s
		}
		switch p.take(1)[0] {
		case viciSectionStart:
			key := p.name()
			s.set(key, p.section(true))
		case viciKeyValue:
			key := p.name()
			s.set(key, p.value())
		case viciListStart:
			key := p.name()
			s.set(key, p.list())
		case viciSectionEnd:
			if !inner {
				p.err = errVICI
			}
			return s
		default:
			p.err = errVICI
		}
	}
	return s
}

func (p *viciParser) list() []string {
	var items []string
	for p.err == nil {
		switch p.take(1)[0] {
		case viciListItem:
			items = append(items, p.value())
		case viciListEnd:
			return items
		default:
			p.err = errVICI
		}
	}
	return items
}
