package ikewire

import "strconv"

// AuthMethod says how AUTH data were made (IANA "IKEv2 Authentication
// Method").
type AuthMethod uint8

const (
	AuthRSA       AuthMethod = 1  // RSASSA-PKCS1-v1_5 with SHA-1 in practice
	AuthSharedKey AuthMethod = 2  // shared key message integrity code
	AuthDSS       AuthMethod = 3  // with SHA-1
	AuthECDSA256  AuthMethod = 9  // SHA-256 on P-256, RFC 4754
	AuthECDSA384  AuthMethod = 10 // SHA-384 on P-384
	AuthECDSA521  AuthMethod = 11 // SHA-512 on P-521
	AuthNull      AuthMethod = 13 // RFC 7619
	AuthSignature AuthMethod = 14 // digital signature, RFC 7427
)

func (m AuthMethod) String() string {
	switch m {
	case AuthRSA:
		return "RSA"
	case AuthSharedKey:
		return "SHARED_KEY"
	case AuthDSS:
		return "DSS"
	case AuthECDSA256:
		return "ECDSA_256"
	case AuthECDSA384:
		return "ECDSA_384"
	case AuthECDSA521:
		return "ECDSA_521"
	case AuthNull:
		return "NULL"
	case AuthSignature:
		return "SIGNATURE"
	}
	return "AUTH_METHOD_" + strconv.Itoa(int(m))
}

// Hash algorithms of SIGNATURE_HASH_ALGORITHMS (IANA "IKEv2 Hash Algorithms",
// RFC 7427 section 4, RFC 8420).
const (
	HashSHA1     uint16 = 1
	HashSHA256   uint16 = 2
	HashSHA384   uint16 = 3
	HashSHA512   uint16 = 4
	HashIdentity uint16 = 5
)

// Auth is the authentication payload (RFC 7296 section 3.8).
type Auth struct {
	Method AuthMethod
	Data   []byte
}

func (*Auth) Type() PayloadType { return PayloadAuth }

func parseAuth(b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "authentication header", ErrTruncated)
	}
	return &Auth{Method: AuthMethod(b[0]), Data: b[4:]}, nil
}

func (p *Auth) appendBody(dst []byte) ([]byte, error) {
	dst = append(dst, byte(p.Method), 0, 0, 0)
	return append(dst, p.Data...), nil
}
