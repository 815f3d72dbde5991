package ikecrypto

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"

	"filippo.io/bigmod"

	"github.com/roamgate/roamgate/control/ikewire"
)

// modpGroup is a group modulo a safe prime p with the generator 2: RFC 3526,
// and RFC 2409 section 6.2 for MODP-1024.
type modpGroup struct {
	bits int // of p
	// exponent is the length of private keys in octets: the larger of the two
	// estimates of RFC 3526 section 8, 320, 420 and 480 bits, which is more
	// than the twice security strength of SP 800-56A section 5.6.1.1.1.
	exponent int
	modulus  func() *bigmod.Modulus
}

var modpGroups = map[uint16]*modpGroup{
	ikewire.GroupMODP1024: {bits: 1024, exponent: 32, modulus: modulus(modp1024)},
	ikewire.GroupMODP2048: {bits: 2048, exponent: 40, modulus: modulus(modp2048)},
	ikewire.GroupMODP3072: {bits: 3072, exponent: 53, modulus: modulus(modp3072)},
	ikewire.GroupMODP4096: {bits: 4096, exponent: 60, modulus: modulus(modp4096)},
}

// modulus reads a prime when it is first needed. A Modulus can be shared.
func modulus(prime string) func() *bigmod.Modulus {
	return sync.OnceValue(func() *bigmod.Modulus {
		p, err := hex.DecodeString(strings.Join(strings.Fields(prime), ""))
		if err != nil {
			panic(err)
		}
		m, err := bigmod.NewModulus(p)
		if err != nil {
			panic(err)
		}
		return m
	})
}

// modpExchange computes in constant time. bigmod leaves intermediate results
// to the garbage collector, but no copy of the private key.
type modpExchange struct {
	group   uint16
	params  *modpGroup
	private []byte // nil after use
	public  []byte
}

func newMODP(group uint16, g *modpGroup, rand io.Reader) (*modpExchange, error) {
	private := make([]byte, g.exponent)
	if _, err := io.ReadFull(rand, private); err != nil {
		return nil, fmt.Errorf("ikecrypto: private key: %w", err)
	}
	var some byte
	for _, b := range private {
		some |= b
	}
	if some == 0 {
		return nil, errNoScalar
	}
	p := g.modulus()
	two := bigmod.NewNat().SetUint(2).ExpandFor(p)
	public := bigmod.NewNat().Exp(two, private, p).Bytes(p)
	return &modpExchange{group: group, params: g, private: private, public: public}, nil
}

func (e *modpExchange) Group() uint16  { return e.group }
func (e *modpExchange) Public() []byte { return e.public }

// Shared pads the secret to the length of the modulus (RFC 7296 section 2.14).
// The peer's value y has that length too (section 3.4), and 1 < y < p-1 (RFC
// 6989 section 2.1), which excludes the subgroups of order 1 and 2; the only
// others of a safe prime are of order (p-1)/2 and p-1.
func (e *modpExchange) Shared(peer []byte) ([]byte, error) {
	if e.private == nil {
		return nil, ErrErased
	}
	p := e.params.modulus()
	if len(peer) != p.Size() {
		return nil, fmt.Errorf("%w: %d octets", ErrPublicValue, len(peer))
	}
	y, err := bigmod.NewNat().SetBytes(peer, p)
	if err != nil || y.IsZero()|y.IsOne()|y.IsMinusOne(p) == 1 {
		return nil, fmt.Errorf("%w: outside 2 to p-2", ErrPublicValue)
	}
	z := bigmod.NewNat().Exp(y, e.private, p)
	shared := z.Bytes(p)
	clear(z.Bits())
	clear(e.private)
	e.private = nil
	return shared, nil
}

const (
	modp1024 = `
		FFFFFFFF FFFFFFFF C90FDAA2 2168C234 C4C6628B 80DC1CD1 29024E08 8A67CC74
		020BBEA6 3B139B22 514A0879 8E3404DD EF9519B3 CD3A431B 302B0A6D F25F1437
		4FE1356D 6D51C245 E485B576 625E7EC6 F44C42E9 A637ED6B 0BFF5CB6 F406B7ED
		EE386BFB 5A899FA5 AE9F2411 7C4B1FE6 49286651 ECE65381 FFFFFFFF FFFFFFFF
	`
	modp2048 = `
		FFFFFFFF FFFFFFFF C90FDAA2 2168C234 C4C6628B 80DC1CD1 29024E08 8A67CC74
		020BBEA6 3B139B22 514A0879 8E3404DD EF9519B3 CD3A431B 302B0A6D F25F1437
		4FE1356D 6D51C245 E485B576 625E7EC6 F44C42E9 A637ED6B 0BFF5CB6 F406B7ED
		EE386BFB 5A899FA5 AE9F2411 7C4B1FE6 49286651 ECE45B3D C2007CB8 A163BF05
		98DA4836 1C55D39A 69163FA8 FD24CF5F 83655D23 DCA3AD96 1C62F356 208552BB
		9ED52907 7096966D 670C354E 4ABC9804 F1746C08 CA18217C 32905E46 2E36CE3B
		E39E772C 180E8603 9B2783A2 EC07A28F B5C55DF0 6F4C52C9 DE2BCBF6 95581718
		3995497C EA956AE5 15D22618 98FA0510 15728E5A 8AACAA68 FFFFFFFF FFFFFFFF
	`
	modp3072 = `
		FFFFFFFF FFFFFFFF C90FDAA2 2168C234 C4C6628B 80DC1CD1 29024E08 8A67CC74
		020BBEA6 3B139B22 514A0879 8E3404DD EF9519B3 CD3A431B 302B0A6D F25F1437
		4FE1356D 6D51C245 E485B576 625E7EC6 F44C42E9 A637ED6B 0BFF5CB6 F406B7ED
		EE386BFB 5A899FA5 AE9F2411 7C4B1FE6 49286651 ECE45B3D C2007CB8 A163BF05
		98DA4836 1C55D39A 69163FA8 FD24CF5F 83655D23 DCA3AD96 1C62F356 208552BB
		9ED52907 7096966D 670C354E 4ABC9804 F1746C08 CA18217C 32905E46 2E36CE3B
		E39E772C 180E8603 9B2783A2 EC07A28F B5C55DF0 6F4C52C9 DE2BCBF6 95581718
		3995497C EA956AE5 15D22618 98FA0510 15728E5A 8AAAC42D AD33170D 04507A33
		A85521AB DF1CBA64 ECFB8504 58DBEF0A 8AEA7157 5D060C7D B3970F85 A6E1E4C7
		ABF5AE8C DB0933D7 1E8C94E0 4A25619D CEE3D226 1AD2EE6B F12FFA06 D98A0864
		D8760273 3EC86A64 521F2B18 177B200C BBE11757 7A615D6C 770988C0 BAD946E2
		08E24FA0 74E5AB31 43DB5BFC E0FD108E 4B82D120 A93AD2CA FFFFFFFF FFFFFFFF
	`
	modp4096 = `
		FFFFFFFF FFFFFFFF C90FDAA2 2168C234 C4C6628B 80DC1CD1 29024E08 8A67CC74
		020BBEA6 3B139B22 514A0879 8E3404DD EF9519B3 CD3A431B 302B0A6D F25F1437
		4FE1356D 6D51C245 E485B576 625E7EC6 F44C42E9 A637ED6B 0BFF5CB6 F406B7ED
		EE386BFB 5A899FA5 AE9F2411 7C4B1FE6 49286651 ECE45B3D C2007CB8 A163BF05
		98DA4836 1C55D39A 69163FA8 FD24CF5F 83655D23 DCA3AD96 1C62F356 208552BB
		9ED52907 7096966D 670C354E 4ABC9804 F1746C08 CA18217C 32905E46 2E36CE3B
		E39E772C 180E8603 9B2783A2 EC07A28F B5C55DF0 6F4C52C9 DE2BCBF6 95581718
		3995497C EA956AE5 15D22618 98FA0510 15728E5A 8AAAC42D AD33170D 04507A33
		A85521AB DF1CBA64 ECFB8504 58DBEF0A 8AEA7157 5D060C7D B3970F85 A6E1E4C7
		ABF5AE8C DB0933D7 1E8C94E0 4A25619D CEE3D226 1AD2EE6B F12FFA06 D98A0864
		D8760273 3EC86A64 521F2B18 177B200C BBE11757 7A615D6C 770988C0 BAD946E2
		08E24FA0 74E5AB31 43DB5BFC E0FD108E 4B82D120 A9210801 1A723C12 A787E6D7
		88719A10 BDBA5B26 99C32718 6AF4E23C 1A946834 B6150BDA 2583E9CA 2AD44CE8
		DBBBC2DB 04DE8EF9 2E8EFC14 1FBECAA6 287C5947 4E6BC05D 99B2964F A090C3A2
		233BA186 515BE7ED 1F612970 CEE2D7AF B81BDD76 2170481C D0069127 D5B05AA9
		93B4EA98 8D8FDDC1 86FFB7DC 90A6C08F 4DF435C9 34063199 FFFFFFFF FFFFFFFF
	`
)
