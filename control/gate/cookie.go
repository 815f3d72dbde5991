package gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"
)

// Secret from which the keys of cookies come. Whoever knows it, and the time,
// can make the same cookies.
type Secret [32]byte

const (
	// cookiePeriod is how long one key makes cookies; they are accepted for
	// one more, so a cookie lives for one to two minutes.
	cookiePeriod = time.Minute
	cookieLen    = 1 + 8
	// cookieInput is the fixed part of what is hashed; the nonce follows:
	//
	//	SPIi [8] | address [16], IPv4 mapped | port [2] | version [1] |
	//	zero [1] | length of the nonce [2] | zero [2]
	cookieInput = 32
)

// cookieKeys are those of a period and the one before it. The version octet of
// a cookie is the low octet of its period's number.
type cookieKeys struct {
	period            int64
	current, previous [16]byte
}

func newCookieKeys(secret *Secret, period int64) *cookieKeys {
	return &cookieKeys{period: period, current: periodKey(secret, period), previous: periodKey(secret, period-1)}
}

// periodKey is the first half of HMAC-SHA-256(secret, label | period), the
// number of periods since 1970 as 64 bits, big-endian.
func periodKey(secret *Secret, period int64) (key [16]byte) {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte("roamgate cookie"))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(period)))
	copy(key[:], mac.Sum(nil))
	return key
}

func cookiePeriodAt(now time.Time) int64 { return now.Unix() / int64(cookiePeriod/time.Second) }

// appendCookie writes version | SipHash-2-4(key, fixed input | Ni), the hash
// big-endian. Sixty-four bits can't be guessed in the two minutes that a key
// lives.
func appendCookie(dst []byte, key *[16]byte, version uint8, remote netip.AddrPort, spi uint64, nonce []byte) []byte {
	var in [cookieInput]byte
	binary.BigEndian.PutUint64(in[:], spi)
	address := remote.Addr().As16()
	copy(in[8:], address[:])
	binary.BigEndian.PutUint16(in[24:], remote.Port())
	in[26] = version
	binary.BigEndian.PutUint16(in[28:], uint16(len(nonce)))
	h := newSipHash(key)
	h.words(in[:])
	sum := h.sum(h.words(nonce), len(in)+len(nonce))
	return binary.BigEndian.AppendUint64(append(dst, version), sum)
}

func (k *cookieKeys) append(dst []byte, remote netip.AddrPort, spi uint64, nonce []byte) []byte {
	return appendCookie(dst, &k.current, uint8(k.period), remote, spi, nonce)
}

// verify says whether cookie was made here for the same source, SPI and nonce,
// in this period or the one before.
func (k *cookieKeys) verify(cookie []byte, remote netip.AddrPort, spi uint64, nonce []byte) bool {
	if len(cookie) != cookieLen {
		return false
	}
	key := &k.current
	switch cookie[0] {
	case uint8(k.period):
	case uint8(k.period - 1):
		key = &k.previous
	default:
		return false
	}
	var buf [cookieLen]byte
	want := appendCookie(buf[:0], key, cookie[0], remote, spi, nonce)
	return subtle.ConstantTimeCompare(cookie, want) == 1
}
