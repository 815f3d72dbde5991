package gcm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// MaxSessions in one list. What has more is malformed.
const MaxSessions = 1 << 20

// Session that is up on a gateway, a line of the answer to GET PathSessions.
type Session struct {
	// ID is hexadecimal, 16 digits, and the one in events.
	ID        string         `json:"id"`
	Device    string         `json:"device"`
	Group     string         `json:"group,omitempty"`
	Addresses []netip.Addr   `json:"addresses"`
	Peer      netip.AddrPort `json:"peer"`
	// Established, and Heard, the last packet of the device: zero for none.
	Established time.Time `json:"established"`
	Heard       time.Time `json:"heard,omitzero"`
	// Resumed by a ticket.
	Resumed bool   `json:"resumed,omitempty"`
	IKE     string `json:"ike,omitempty"`
	ESP     string `json:"esp,omitempty"`
	Client  string `json:"client,omitempty"`
	// Octets and packets from the device (in) and to it (out).
	BytesIn    uint64 `json:"bytes_in"`
	PacketsIn  uint64 `json:"packets_in"`
	BytesOut   uint64 `json:"bytes_out"`
	PacketsOut uint64 `json:"packets_out"`
}

// Append writes a session as a line.
func (s Session) Append(b []byte) ([]byte, error) { return appendLine(b, s) }

// Check the bounds of each field. Error: ErrMalformed.
func (s *Session) Check() error {
	for _, text := range []string{s.ID, s.Group, s.IKE, s.ESP, s.Client} {
		if len(text) > maxText {
			return fmt.Errorf("%w: a text of %d octets in a session", ErrMalformed, len(text))
		}
	}
	if !isName(s.Device) || s.ID == "" {
		return fmt.Errorf("%w: session %q of %q", ErrMalformed, s.ID, s.Device)
	}
	return checkPlace(s.Addresses, s.Peer)
}

// SessionReader reads the sessions that a gateway sent.
type SessionReader struct {
	lines *bufio.Scanner
	read  int
}

// NewSessionReader of the answer to GET PathSessions.
func NewSessionReader(r io.Reader) *SessionReader { return &SessionReader{lines: newLines(r)} }

// Next session; io.EOF at the end. Errors: ErrMalformed, also for too many, and
// those of the reader.
func (r *SessionReader) Next() (Session, error) {
	var s Session
	if err := readLine(r.lines, &s); err != nil {
		return Session{}, err
	}
	if r.read++; r.read > MaxSessions {
		return Session{}, fmt.Errorf("%w: more than %d sessions", ErrMalformed, MaxSessions)
	}
	return s, s.Check()
}

func newLines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), MaxLine)
	return s
}

// readLine decodes one JSON object a line, strictly.
func readLine(lines *bufio.Scanner, v any) error {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return io.EOF
	}
	d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if d.More() {
		return fmt.Errorf("%w: two objects on a line", ErrMalformed)
	}
	return nil
}

func appendLine(b []byte, v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return b, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(line) >= MaxLine {
		return b, fmt.Errorf("%w: a line of %d octets", ErrTooLarge, len(line))
	}
	return append(append(b, line...), '\n'), nil
}
