package page

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/roamgate/roamgate/enrollment/otp"
)

// sessionTime is how long a user has from the log-in to the last download.
const sessionTime = 15 * time.Minute

// maxCookie is what browsers keep (RFC 6265 section 6.1), name included.
const maxCookie = 4000

// cookieName makes browsers insist on TLS and on this host.
const cookieName = "__Host-enrollment"

var errNoSession = errors.New("no session, or one that has ended")

// session is what the cookie holds, sealed.
type session struct {
	ID       otp.ID   `json:"i"`
	Password [10]byte `json:"p"`
	Device   string   `json:"d"`
	User     string   `json:"u"`
	Ends     int64    `json:"e"` // Unix seconds
	// Open until of the request, Unix seconds.
	Until int64 `json:"t"`
	// Kind that was chosen and agreed to; empty before.
	Kind string `json:"k,omitempty"`
	// Key is the private scalar of a P-256 key, for kinds whose key the server
	// makes, and Public the SubjectPublicKeyInfo where the device made it.
	Key    []byte `json:"s,omitempty"`
	Public []byte `json:"c,omitempty"`
	// Container is the password of the PKCS#12 file.
	Container string `json:"w,omitempty"`
}

// sealer of sessions.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "roamgate enrollment page session 1", 32)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

func (s *sealer) put(w http.ResponseWriter, v *session) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return err
	}
	defer clear(plain)
	value := base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(cookieName)))
	if len(value)+len(cookieName) > maxCookie {
		return errors.New("the session is too large for a cookie")
	}
	http.SetCookie(w, cookie(value, int(sessionTime/time.Second)))
	return nil
}

func cookie(value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

func (s *sealer) get(r *http.Request, now time.Time) (*session, error) {
	c, err := r.Cookie(cookieName)
	if err != nil || len(c.Value) > maxCookie {
		return nil, errNoSession
	}
	sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return nil, errNoSession
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte(cookieName))
	if err != nil {
		return nil, errNoSession
	}
	defer clear(plain)
	v := new(session)
	if err := json.Unmarshal(plain, v); err != nil || now.Unix() >= v.Ends {
		return nil, errNoSession
	}
	return v, nil
}

// erase what is secret.
func (v *session) erase() {
	clear(v.Password[:])
	clear(v.Key)
}

// makeKey for a device that doesn't make its own.
func (v *session) makeKey() {
	for {
		v.Key = make([]byte, 32)
		rand.Read(v.Key)
		if _, err := v.private(); err == nil {
			break
		}
	}
	v.Container = rand.Text()
}

func (v *session) private() (*ecdsa.PrivateKey, error) {
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), v.Key)
}
