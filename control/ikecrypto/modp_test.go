package ikecrypto

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math/big"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// The primes are what RFC 3526 and RFC 2409 define them to be, by a pi that is
// computed here: 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) pi) + c).
func TestMODPPrimes(t *testing.T) {
	one := big.NewInt(1)
	power := func(n int) *big.Int { return new(big.Int).Lsh(one, uint(n)) }
	for _, test := range []struct {
		group uint16
		c     int64
	}{
		{ikewire.GroupMODP1024, 129093},
		{ikewire.GroupMODP2048, 124476},
		{ikewire.GroupMODP3072, 1690314},
		{ikewire.GroupMODP4096, 240904},
	} {
		g := modpGroups[test.group]
		p := new(big.Int).Add(pi(g.bits-130), big.NewInt(test.c))
		p.Lsh(p, 64)
		p.Add(p, power(g.bits)).Sub(p, power(g.bits-64)).Sub(p, one)
		m := g.modulus()
		if got := new(big.Int).SetBytes(m.Nat().Bytes(m)); got.Cmp(p) != 0 {
			t.Errorf("%d bits: %x, want %x", g.bits, got, p)
		}
		if q := new(big.Int).Rsh(p, 1); !p.ProbablyPrime(2) || !q.ProbablyPrime(2) {
			t.Errorf("%d bits: not a safe prime", g.bits)
		}
	}
}

// pi is floor(2^bits pi), by Machin's formula.
func pi(bits int) *big.Int {
	const guard = 64
	arctan := func(x int64) *big.Int { // of 1/x
		power := new(big.Int).Lsh(big.NewInt(1), uint(bits+guard))
		power.Quo(power, big.NewInt(x))
		sum := new(big.Int).Set(power)
		for n := int64(3); power.Sign() != 0; n += 2 {
			power.Quo(power, big.NewInt(-x*x))
			sum.Add(sum, new(big.Int).Quo(power, big.NewInt(n)))
		}
		return sum
	}
	out := new(big.Int).Mul(arctan(5), big.NewInt(4))
	out.Sub(out, arctan(239)).Mul(out, big.NewInt(4))
	return out.Rsh(out, guard)
}

// A private value of OpenSSL 3.0 is shorter than ours: zeros before it make it
// fit.
func TestMODPAgainstOpenSSL(t *testing.T) {
	i := unhex(`000000000000000000000001ca69dc213d4711c8ebfa1bad4c9ee32465265e63e8815da5c1bd6d71`)
	r := unhex(`00000000000000000000000163ea93ee0e2b1e9853fc1a8ba587e0ededed119ceb928baa9cb26644`)
	publicI := unhex(`
		3a1971fa6063a16b00fee300972240f0bb00bc83f7abb424876d766fcf556c7a8fd0362f724a63b1cdeacc2565862798
		e0cea8e1870eddb68ab5fe260a54de63e2eb7ca2bf960ee01347575724bd92a4b6a5d68372903ce35c0779fec924786d
		18fe8a61ad638dbb3dcea8fcbe8b0c6b6a3d02a0044e6744583e90df04d04a8e37a32484858cf2271bbd1d7a916be3cf
		8b47c7d529dee751a0f65147b131d87e79827b7a493639b8cbd050b12c98f8b733cbb9b031eef41cb1ff382c0a554839
		bba2d0502d774e72d71a8e15beb7500a82f5f77b0fb67137068c2f87a9010761d944dd2091a87add9e4e5289d99ba09e
		d5662e3b689d72f87f651f749de29cfd`)
	publicR := unhex(`
		8fc7e8b0da385457859643f8b1b42dc199acee18a19d41bb126a477177c82602302450d6ac7626b4bed3c002a35df18e
		2871b862703ef90cdacd031323509316c1dc5ca46d04d4e10e21784a431225e61edde83a8ebec43db150f2c6a82a366f
		9625d5f93cee77cb53f42453b52e2488fd15a99fcb63389cb5211d69e1f02dcd9862a4a8446d8934c4f9dc831d5caca9
		fe70c633f7c62ea510f8726946456a766e53b54fe4ac877ed83bf1598c690d5998bbef21d1c57d779f41b38e8701e6f0
		548af4082c09a9c79f13a84b140ba6ec41a2fe83fd23b25b2f92347c1fa4cf5f1fe57b82c1d7f15c62d3d047630419bd
		46285146d7d0983ef10f9d9dbca3ba8b`)
	shared := unhex(`
		8a00f986f407df177e5d63819f152b55c3f2c1877a57492e123e6f95d2d566fe3bf5f054f8b2a7d93823fcbf7242b72d
		00ec6b6b101cb94f4735ab2d45fc8ff63fd61d57e2f5e8b444de78dfce855de7dba7a6786ceca6da30fede4c6a3621d8
		fcb345efcf6dd047a74126f36619d1953801573d07a0e09b235bdd6ff0212e66f840ceba55e89b3c31d7ceeb9a75960b
		ecba81c14c339e2b26183e2029dd1bc14034818d7efd1c1495f821494c8972ac71005b2c0b7dcf7f63e233c493d66db7
		e1b82b8d15fe45192ab40751ba8134adbf17409c98744d154b4c2591f4314184b902d68da7287c0514c7765c3bab2340
		3b2b9d22fed3805fb4be6e80af6fa4f1`)
	for _, side := range []struct{ private, public, peer []byte }{{i, publicI, publicR}, {r, publicR, publicI}} {
		kex, err := NewKeyExchange(ikewire.GroupMODP2048, bytes.NewReader(side.private))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(kex.Public(), side.public) {
			t.Errorf("public %x", kex.Public())
		}
		if got, err := kex.Shared(side.peer); err != nil || !bytes.Equal(got, shared) {
			t.Errorf("shared %x, error %v", got, err)
		}
	}
}

// The same numbers by math/big, with padding where they are short: a private
// value of 3 has a public one of 8, and a peer's of 2 makes the secret 8.
func TestMODPAgainstBig(t *testing.T) {
	two := big.NewInt(2)
	for group, g := range modpGroups {
		m := g.modulus()
		p := new(big.Int).SetBytes(m.Nat().Bytes(m))
		random := make([]byte, g.exponent)
		if _, err := rand.Read(random); err != nil {
			t.Fatal(err)
		}
		small := make([]byte, g.exponent)
		small[len(small)-1] = 3
		for _, private := range [][]byte{random, small} {
			x := new(big.Int).SetBytes(private)
			for _, y := range []*big.Int{two, new(big.Int).Rsh(p, 1), new(big.Int).Sub(p, two)} {
				kex, err := Legacy{MODP1024: true}.NewKeyExchange(group, bytes.NewReader(private))
				if err != nil {
					t.Fatal(err)
				}
				want := new(big.Int).Exp(two, x, p).FillBytes(make([]byte, g.bits/8))
				if !bytes.Equal(kex.Public(), want) || PublicLen(group) != len(want) {
					t.Errorf("group %d: public %x", group, kex.Public())
				}
				want = new(big.Int).Exp(y, x, p).FillBytes(make([]byte, g.bits/8))
				shared, err := kex.Shared(y.FillBytes(make([]byte, g.bits/8)))
				if err != nil || !bytes.Equal(shared, want) {
					t.Errorf("group %d: shared %x, error %v", group, shared, err)
				}
			}
		}
	}
}

func TestMODPHostileValues(t *testing.T) {
	kex, err := NewKeyExchange(ikewire.GroupMODP2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := modpGroups[ikewire.GroupMODP2048].modulus()
	p := new(big.Int).SetBytes(m.Nat().Bytes(m))
	value := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 256)) }
	for _, test := range []struct {
		name   string
		public []byte
	}{
		{"nothing", nil},
		{"0", make([]byte, 256)},
		{"1", value(big.NewInt(1))},
		{"p-1", value(new(big.Int).Sub(p, big.NewInt(1)))},
		{"p", value(p)},
		{"p+2", value(new(big.Int).Add(p, big.NewInt(2)))},
		{"2^2048-1", bytes.Repeat([]byte{0xff}, 256)},
		{"4, not padded", []byte{4}},
		{"4, padded too far", append(make([]byte, 256), 4)},
	} {
		if shared, err := kex.Shared(test.public); !errors.Is(err, ErrPublicValue) || shared != nil {
			t.Errorf("%s: shared %x, error %v", test.name, shared, err)
		}
	}
	// None of these has cost us the private key, but success does.
	private := kex.(*modpExchange).private
	if _, err := kex.Shared(value(big.NewInt(2))); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(private, make([]byte, len(private))) {
		t.Errorf("private key left: %x", private)
	}
	if _, err := kex.Shared(value(big.NewInt(2))); !errors.Is(err, ErrErased) {
		t.Errorf("used twice: %v", err)
	}
}

func TestMODPRandomSource(t *testing.T) {
	if _, err := NewKeyExchange(ikewire.GroupMODP2048, zeros{}); err == nil {
		t.Error("a source of zeros gave a key")
	}
	if _, err := NewKeyExchange(ikewire.GroupMODP2048, bytes.NewReader(make([]byte, 39))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short source: %v", err)
	}
}

// No public value of a peer makes us fail in another way than by an error.
func FuzzMODPShared(f *testing.F) {
	f.Add(make([]byte, 128))
	f.Add(bytes.Repeat([]byte{0xff}, 128))
	f.Add(bytes.Repeat([]byte{0x7f}, 128))
	private := bytes.Repeat([]byte{0x5a}, 32)
	m := modpGroups[ikewire.GroupMODP1024].modulus()
	p := new(big.Int).SetBytes(m.Nat().Bytes(m))
	f.Fuzz(func(t *testing.T, peer []byte) {
		kex, err := Legacy{MODP1024: true}.NewKeyExchange(ikewire.GroupMODP1024, bytes.NewReader(private))
		if err != nil {
			t.Fatal(err)
		}
		shared, err := kex.Shared(peer)
		if errors.Is(err, ErrPublicValue) {
			return
		}
		want := new(big.Int).Exp(new(big.Int).SetBytes(peer), new(big.Int).SetBytes(private), p)
		if err != nil || len(shared) != 128 || new(big.Int).SetBytes(shared).Cmp(want) != 0 {
			t.Errorf("%x: shared %x, error %v", peer, shared, err)
		}
	})
}
