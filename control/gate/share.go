package gate

import "time"

// CookieKey makes the cookies of one period: SipHash-2-4 with Key over the
// input that is documented at the top of cookie.go. Period is counted from 1970;
// its low octet is the first of the cookie.
type CookieKey struct {
	Period uint64
	Key    [16]byte
}

// CookiePeriod is how long one key makes cookies.
const CookiePeriod = cookiePeriod

// CookieKeys are for a program in front of the gateway that answers COOKIE in
// its place: the keys of the period before now, of the current one and of the
// next, so that a clock that is late does no harm. A gate with the same secret
// accepts what they make, and makes what they accept.
func CookieKeys(secret *Secret, now time.Time) (current uint64, keys [3]CookieKey) {
	period := cookiePeriodAt(now)
	for i := range keys {
		p := period - 1 + int64(i)
		keys[i] = CookieKey{Period: uint64(p), Key: periodKey(secret, p)}
	}
	return uint64(period), keys
}
