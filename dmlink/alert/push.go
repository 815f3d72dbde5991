package alert

import (
	"bytes"
	"fmt"
)

// A connectionless push PDU of WSP (WAP-230-WSP section 8.2.4.1): transaction,
// type, length of the headers; the content type, then headers.
const (
	pushPDU = 0x06
	// Numbers have the high bit set where they stand for a name.
	contentNotification = 0x80 | 0x44
	headerApplicationID = 0x80 | 0x2f
	applicationDM       = 0x80 | 0x07
	// maxPushHeaders in octets.
	maxPushHeaders = 48

	// PushPort is where a device takes WAP pushes, UDP or the port of an SMS.
	PushPort = 2948
)

// notificationType is the content type in letters.
const notificationType = "application/vnd.syncml.notification"

// AppendPush appends a notification as a WAP push, for a bearer that needs it.
// The transaction has no meaning without a connection.
func AppendPush(dst []byte, transaction byte, notification []byte) []byte {
	dst = append(dst, transaction, pushPDU, 3, contentNotification, headerApplicationID, applicationDM)
	return append(dst, notification...)
}

// ParsePush returns the notification in a WAP push for the DM client, a part of
// octets. Errors: ErrMalformed.
func ParsePush(octets []byte) ([]byte, error) {
	if len(octets) < 3 || octets[1] != pushPDU {
		return nil, fmt.Errorf("%w: no push of WSP", ErrMalformed)
	}
	length := int(octets[2]) // an uintvar; what needs a second octet is too long
	if length > maxPushHeaders || length > len(octets)-3 {
		return nil, fmt.Errorf("%w: %d octets of headers", ErrMalformed, length)
	}
	headers, body := octets[3:3+length], octets[3+length:]
	kind, headers, ok := pushValue(headers)
	if !ok || !isNotificationType(kind) {
		return nil, fmt.Errorf("%w: push of another content type", ErrMalformed)
	}
	for len(headers) > 0 {
		var name, value []byte
		if name, headers, ok = pushName(headers); ok {
			value, headers, ok = pushValue(headers)
		}
		if !ok {
			return nil, fmt.Errorf("%w: headers of the push", ErrMalformed)
		}
		if bytes.Equal(name, []byte{headerApplicationID}) && isDM(value) {
			return body, nil
		}
	}
	return nil, fmt.Errorf("%w: push for another application", ErrMalformed)
}

// isNotificationType takes the short form, and both with a length before them
// for parameters, which have no meaning here.
func isNotificationType(v []byte) bool {
	if len(v) > 1 && v[0] < 31 {
		v = v[1:]
	}
	if len(v) == 0 || v[0] >= 0x80 {
		return len(v) > 0 && v[0] == contentNotification
	}
	text, _, ok := bytes.Cut(v, []byte{0})
	return ok && string(text) == notificationType
}

// isDM takes the short integer and the long one of one octet.
func isDM(v []byte) bool {
	return bytes.Equal(v, []byte{applicationDM}) || bytes.Equal(v, []byte{1, applicationDM & 0x7f})
}

// pushName takes the name of a header: one octet with the high bit, or text with
// its zero.
func pushName(b []byte) (name, rest []byte, ok bool) {
	if len(b) == 0 || b[0] < 32 {
		return nil, nil, false
	}
	return pushValue(b)
}

// pushValue takes a value (section 8.4.1.2): a length below 31 and so many
// octets, text with its zero, or one octet with the high bit.
func pushValue(b []byte) (value, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	n := 1
	switch first := b[0]; {
	case first < 31:
		n = 1 + int(first)
	case first == 31: // a longer length, which can't be within maxPushHeaders and mean something
		return nil, nil, false
	case first < 0x80:
		if n = bytes.IndexByte(b, 0) + 1; n == 0 {
			return nil, nil, false
		}
	}
	if n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
