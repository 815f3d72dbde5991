package ikecrypto

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

func TestKeyExchangeVectors(t *testing.T) {
	for _, test := range []struct {
		name             string
		group            uint16
		i, r             string // private values
		publicI, publicR string
		shared           string
	}{
		{
			"RFC 7748 section 6.1", ikewire.GroupCurve25519,
			"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
			"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
			"8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
			"de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
			"4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
		},
		{
			"RFC 5903 section 8.1", ikewire.GroupECP256,
			"C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
			"C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
			`DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180
			 5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3`,
			`D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63
			 56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB`,
			"D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
		},
		{
			"RFC 5903 section 8.2", ikewire.GroupECP384,
			"099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194",
			"41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC",
			`667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6DE3AC808ACB4BDB4C88732AEE95F41AA
			 9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38EEB9FCFF3C2C947DAE69B4C634573A81C`,
			`E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D0D1AC43A0336DEF96FDA41D0774A3571
			 DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FFF83FA40142209DFF5EAAD96DB9E6386C`,
			"11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746",
		},
		{
			"RFC 5903 section 8.3", ikewire.GroupECP521,
			"0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52",
			"0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9",
			`0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e
			 017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582`,
			`00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c2912d4ef2d0433ced2b6171640012d9460f
			 015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae49cb57091f4732296579ab44fcd17f0fc56a`,
			"01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea",
		},
		{
			"RFC 5114 section 2.6, 256-bit", ikewire.GroupECP256,
			"814264145F2F56F2E96A8E337A1284993FAF432A5ABCE59E867B7291D507A3AF",
			"2CE1788EC197E096DB95A200CC0AB26A19CE6BCCAD562B8EEE1B593761CF7F41",
			`2AF502F3BE8952F2C9B5A8D4160D09E97165BE50BC42AE4A5E8D3B4BA83AEB15
			 EB0FAF4CA986C4D38681A0F9872D79D56795BD4BFF6E6DE3C0F5015ECE5EFD85`,
			`B120DE4AA36492795346E8DE6C2C8646AE06AAEA279FA775B3AB0715F6CE51B0
			 9F1B7EECE20D7B5ED8EC685FA3F071D83727027092A8411385C34DDE5708B2B6`,
			"DD0F5396219D1EA393310412D19A08F1F5811E9DC8EC8EEA7F80D21C820C2788",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			i, err := NewKeyExchange(test.group, bytes.NewReader(unhex(test.i)))
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewKeyExchange(test.group, bytes.NewReader(unhex(test.r)))
			if err != nil {
				t.Fatal(err)
			}
			if i.Group() != test.group || len(i.Public()) != PublicLen(test.group) {
				t.Errorf("group %d, %d octets", i.Group(), len(i.Public()))
			}
			if !bytes.Equal(i.Public(), unhex(test.publicI)) || !bytes.Equal(r.Public(), unhex(test.publicR)) {
				t.Errorf("public values\n%x\n%x", i.Public(), r.Public())
			}
			for _, side := range []struct {
				own  KeyExchange
				peer []byte
			}{{i, r.Public()}, {r, i.Public()}} {
				if shared, err := side.own.Shared(side.peer); err != nil || !bytes.Equal(shared, unhex(test.shared)) {
					t.Errorf("shared %x, error %v", shared, err)
				}
				if _, err := side.own.Shared(side.peer); !errors.Is(err, ErrErased) {
					t.Errorf("used twice: %v", err)
				}
			}
		})
	}
}

// Zero and the order itself are no scalars: the next octets are taken.
func TestScalarsByRejection(t *testing.T) {
	order := unhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
	good := unhex("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433")
	random := bytes.NewReader(append(append(make([]byte, 32), order...), good...))
	kex, err := NewKeyExchange(ikewire.GroupECP256, random)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(kex.Public(), unhex("DAD0B65394221CF9")) {
		t.Errorf("public %x", kex.Public())
	}
	// 521 bits are cut out of 66 octets, or nearly every draw would be in vain.
	if _, err := NewKeyExchange(ikewire.GroupECP521, bytes.NewReader(bytes.Repeat([]byte{0x7e}, 66))); err != nil {
		t.Errorf("ECP-521: %v", err)
	}
	if _, err := NewKeyExchange(ikewire.GroupECP256, zeros{}); err == nil {
		t.Error("a source of zeros gave a key")
	}
	if _, err := NewKeyExchange(ikewire.GroupECP384, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short source: %v", err)
	}
	if _, err := NewKeyExchange(ikewire.GroupMODP768, rand.Reader); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("MODP-768: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestHostilePublicValues(t *testing.T) {
	for _, test := range []struct {
		name   string
		group  uint16
		public []byte
	}{
		{"x25519, zero", ikewire.GroupCurve25519, make([]byte, 32)},
		{"x25519, point of order 8", ikewire.GroupCurve25519, unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")},
		{"x25519, short", ikewire.GroupCurve25519, make([]byte, 31)},
		{"ECP-256, nothing", ikewire.GroupECP256, nil},
		{"ECP-256, zero", ikewire.GroupECP256, make([]byte, 64)},
		{"ECP-256, off the curve", ikewire.GroupECP256, bytes.Repeat([]byte{1}, 64)},
		{"ECP-256, with the octet of SEC 1", ikewire.GroupECP256, append([]byte{4}, make([]byte, 64)...)},
		{"ECP-256, compressed", ikewire.GroupECP256, append([]byte{2}, make([]byte, 32)...)},
		{"ECP-384, of ECP-256", ikewire.GroupECP384, make([]byte, 64)},
		{"ECP-384, beyond the field", ikewire.GroupECP384, bytes.Repeat([]byte{0xff}, 96)},
		{"ECP-521, of ECP-384", ikewire.GroupECP521, make([]byte, 96)},
		{"ECP-521, beyond the field", ikewire.GroupECP521, bytes.Repeat([]byte{0xff}, 132)},
	} {
		t.Run(test.name, func(t *testing.T) {
			kex, err := NewKeyExchange(test.group, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if shared, err := kex.Shared(test.public); !errors.Is(err, ErrPublicValue) || shared != nil {
				t.Errorf("shared %x, error %v", shared, err)
			}
		})
	}
}
