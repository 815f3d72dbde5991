package syncml

import (
	"bytes"
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Schemes of credentials (OMA-TS-DM_Security-V1_2_1 section 5). MD5 is what the
// specification has; the transport underneath is what protects a session.
const (
	AuthBasic = "syncml:auth-basic"
	AuthMD5   = "syncml:auth-md5"
	AuthMAC   = "syncml:auth-MAC"
)

func md5base64(octets []byte) []byte {
	sum := md5.Sum(octets)
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}

// DigestMD5 is the Data of a Cred of scheme AuthMD5, in base64:
// MD5(base64(MD5(name:password)):nonce).
func DigestMD5(name string, password, nonce []byte) []byte {
	return md5base64(secretAndNonce(name, password, nonce))
}

func secretAndNonce(name string, password, nonce []byte) []byte {
	secret := append([]byte(name+":"), password...)
	defer clear(secret)
	return append(append(md5base64(secret), ':'), nonce...)
}

// VerifyMD5 reports whether cred proves the password. It takes as long for a
// wrong one as for the right one.
func VerifyMD5(cred []byte, name string, password, nonce []byte) bool {
	return subtle.ConstantTimeCompare(cred, DigestMD5(name, password, nonce)) == 1
}

// MAC is the header x-syncml-hmac of an HTTP message.
type MAC struct {
	Username string
	// Digest, raw.
	Digest []byte
}

// MACHeader is where a MAC travels.
const MACHeader = "X-Syncml-Hmac"

// NewMAC over the octets of a message:
// MD5(base64(MD5(name:password)):nonce:base64(MD5(body))).
func NewMAC(name string, password, nonce, body []byte) MAC {
	text := append(append(secretAndNonce(name, password, nonce), ':'), md5base64(body)...)
	sum := md5.Sum(text)
	return MAC{Username: name, Digest: sum[:]}
}

// Verify reports whether the MAC is that of body.
func (m MAC) Verify(name string, password, nonce, body []byte) bool {
	return m.Username == name && subtle.ConstantTimeCompare(m.Digest, NewMAC(name, password, nonce, body).Digest) == 1
}

// String is the header's value.
func (m MAC) String() string {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(m.Username)
	return `algorithm=MD5, username="` + quoted + `", mac=` + base64.StdEncoding.EncodeToString(m.Digest)
}

// maxMACHeader is longer than any name that an account has.
const maxMACHeader = 1024

// ParseMAC reads the header's value. The specification says 16 octets in base64
// and shows 32 hexadecimal digits in base64: both are taken.
func ParseMAC(value string) (MAC, error) {
	if len(value) > maxMACHeader {
		return MAC{}, fmt.Errorf("%w: %s of %d octets", ErrTooLarge, MACHeader, len(value))
	}
	var m MAC
	var seen []string
	for rest := value; ; {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return MAC{}, fmt.Errorf("%w: %s", ErrMalformed, MACHeader)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		word, next, err := macWord(after)
		if err != nil {
			return MAC{}, err
		}
		for _, s := range seen {
			if s == name {
				return MAC{}, fmt.Errorf("%w: %s: %s twice", ErrMalformed, MACHeader, name)
			}
		}
		seen = append(seen, name)
		switch name {
		case "algorithm":
			if !strings.EqualFold(word, "MD5") {
				return MAC{}, fmt.Errorf("%w: %s: algorithm %.20q", ErrForbidden, MACHeader, word)
			}
		case "username":
			m.Username = word
		case "mac":
			if m.Digest, err = macDigest(word); err != nil {
				return MAC{}, err
			}
		default:
			return MAC{}, fmt.Errorf("%w: %s: unknown parameter", ErrMalformed, MACHeader)
		}
		if next == "" {
			break
		}
		rest = next
	}
	if m.Digest == nil || m.Username == "" {
		return MAC{}, fmt.Errorf("%w: %s without name or digest", ErrMalformed, MACHeader)
	}
	return m, nil
}

// macWord takes a token or a quoted string from s, and the comma behind it.
func macWord(s string) (word, rest string, err error) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, `"`) {
		word, rest, _ = strings.Cut(s, ",")
		return strings.TrimSpace(word), strings.TrimSpace(rest), nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			rest = strings.TrimSpace(s[i+1:])
			if rest != "" && rest[0] != ',' {
				return "", "", fmt.Errorf("%w: %s", ErrMalformed, MACHeader)
			}
			return b.String(), strings.TrimSpace(strings.TrimPrefix(rest, ",")), nil
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", fmt.Errorf("%w: %s: open quote", ErrMalformed, MACHeader)
}

func macDigest(s string) ([]byte, error) {
	raw, err := decodeBase64(s)
	if err != nil {
		return nil, err
	}
	if len(raw) == 2*md5.Size {
		if raw, err = hex.DecodeString(string(bytes.ToLower(raw))); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, MACHeader, err)
		}
	}
	if len(raw) != md5.Size {
		return nil, fmt.Errorf("%w: %s: digest of %d octets", ErrMalformed, MACHeader, len(raw))
	}
	return raw, nil
}
