package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// gcmVectors are the AES-GCM test cases of draft-mcgrew-gcm-test-01. There the
// IV isn't the sequence number, and plaintext ends with the ESP trailer.
var gcmVectors = []struct {
	key, salt string
	esn       bool
	seq       uint64
	plaintext string
	packet    string
}{
	{
		"4c80cdefbb5d10da906ac73c3613a634", "2e443b68", true, 0x8765432100000000,
		`45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
		 00000000045f736970045f756470037369700963796265726369747902646b00
		 0021000101020201`,
		`00004321000000004956ed7e3b244cfe
		 fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
		 cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
		 61bc17d768fd9732459018148f6cbe722fd04796562dfdb4`,
	},
	{
		"feffe9928665731c6d6a8f9467308308", "cafebabe", false, 0x0000000a,
		`4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100
		 0001000000000000037369700963796265726369747902646b00000100010001`,
		`0000a5f80000000afacedbaddecaf888
		 deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c
		 3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1
		 83b70d3aa8bc6ee4c309e9d85a41ad4a`,
	},
	{
		"abbccddef00112233445566778899aababbccddef00112233445566778899aab", "11223344", false, 2,
		`4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
		 7002400020bf0000020405b40101040201020201`,
		`4a2cbfe3000000020102030405060708
		 ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
		 748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49
		 15956c96`,
	},
	{
		"00000000000000000000000000000000", "00000000", false, 1,
		`4500003c99c500008001cb7a40679318010101010800075c0200440061626364
		 65666768696a6b6c6d6e6f707172737475767761626364656667686901020201`,
		`00000000000000010000000000000000
		 4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284
		 456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3
		 f821d496eeb096e98ad2b69e4799c71d`,
	},
	{
		"3de09874b388e6491988d0c3607eae1f", "57690e43", true, 0x1010101010101010,
		`4500003c99c300008001cb7c40679318010101010800085c0200430061626364
		 65666768696a6b6c6d6e6f707172737475767761626364656667686901020201`,
		`42f67e3f101010104e280000a2fca1a3
		 fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c357917
		 65acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320a
		 e0d731cc978ecafaeae88f00e80d6e48`,
	},
	{
		"3de09874b388e6491988d0c3607eae1f", "57690e43", true, 0x1010101010101010,
		`4500001c42a200008001441f406793b6e00000020a00f5ff01020201`,
		`42f67e3f101010104e280000a2fca1a3
		 fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed369f071f
		 35e034be95f112e4e7d05d35`,
	},
	{
		"feffe9928665731c6d6a8f9467308308feffe9928665731c", "cafebabe", false, 0x0000000a,
		`45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e
		 501016d075680001`,
		`0000a5f80000000afacedbaddecaf888
		 a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0
		 315b27452144cc7795457b9652037f5318027b5b4cd7a636`,
	},
	{
		"abbccddef00112233445566778899aab", "decaf888", true, 1,
		`4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d5
		 00004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec95
		 9b6266c04722b14923010101`,
		`0000010000000001cafedebaceface74
		 18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f
		 9190feebaf2cb01984e65863965d7472b79da345e0e780191f0d2f0e0f496c22
		 6f2127b27db35724e7845d68651f57e65f354f75ff17015769623436`,
	},
	{
		"abbccddef00112233445566778899aababbccddef00112233445566778899aab", "73616c74", true, 0x156f3126dd0db99b,
		`45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb712602
		 50101f646d540001`,
		`17405e67dd0db99b616e640169766563
		 f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57f
		 f4d3a31ce673119e451626c2415771e3b7eebca614c89b35`,
	},
	{
		"3de09874b388e6491988d0c3607eae1f", "57690e43", true, 0x1010101010101010,
		`45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b
		 000001e0001e8c18d65759d52284a0352c71475c8880391c764d6e5ee0496b32
		 5ae270c03899493915010101`,
		`42f67e3f101010104e280000a2fca1a3
		 fba2cad12fc1f9f00d3cebf305410db83d7784b607323d220f24b0a97d541828
		 00cadb0f68d99ef0e0c0c89ae9bea8884e52d65bc1afd0740f742444747b5b39
		 ab533163aad4550ee5160975cdb608c5769189609763b8e18caa81e2`,
	},
	{
		"abbccddef00112233445566778899aababbccddef00112233445566778899aab", "73616c74", true, 0x156f3126dd0db99b,
		`636973636f0172756c657301746865016e6574776501646566696e6501746865
		 746563686e6f6c6f67696573017468617477696c6c01646566696e65746f6d6f
		 72726f7701020201`,
		`17405e67dd0db99b616e640169766563
		 d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18
		 d0a6df10e5487df074113e14c641024e3e6773d91a62ee429b043a10e3efe6b0
		 12a49363412364f8c0cac587f249e56b11e24f30e44ccc76`,
	},
	{
		"7d773d00c144c525ac619d18c84a3f47", "d9664267", false, 0xffffffff,
		`01020201`,
		`335467aeffffffff43457e9182443bc6
		 437f866bcb3f699fe9b0822bac961c4504bef270`,
	},
	{
		"abbccddef00112233445566778899aab", "decaf888", true, 1,
		`746f016265016f72016e6f7401746f0162650001`,
		`0000010000000001cafedebaceface74
		 29c9fc69a197d038ccdd14e2ddfcaa0543332164412503524303ed3c6c5f2838
		 43af8c3e`,
	},
	{
		"6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961", "7475726e", true, 0xffffffffffffffff,
		`45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364
		 65666768696a6b6c6d6e6f707172737401020201`,
		`796b6963ffffffff333021696765746d
		 f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a86
		 4cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937ba2945f669368661a32
		 9fb4c053`,
	},
}

func TestGCMVectors(t *testing.T) {
	for i, v := range gcmVectors {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			key := unhex(t, v.key)
			alg := dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: uint16(len(key) * 8)}
			eachGCM(t, func(t *testing.T) {
				checkAEAD(t, alg, append(key, unhex(t, v.salt)...), v.esn, v.seq, unhex(t, v.plaintext), unhex(t, v.packet))
			})
		})
	}
}

// checkAEAD seals what plaintext has before its ESP trailer, with the IV of
// packet, and opens packet.
func checkAEAD(t *testing.T, alg dataplane.Algorithm, key []byte, esn bool, seq uint64, plaintext, want []byte) {
	t.Helper()
	tr, err := New(alg, dataplane.Keys{Encryption: key}, esn)
	if err != nil {
		t.Fatal(err)
	}
	nextHeader := plaintext[len(plaintext)-1]
	inner := plaintext[:len(plaintext)-trailerLen-int(plaintext[len(plaintext)-2])]

	packet := make([]byte, tr.SealedLen(len(inner)))
	copy(packet[tr.HeaderLen():], inner)
	spi, iv := binary.BigEndian.Uint32(want), binary.BigEndian.Uint64(want[8:])
	sealer := tr.(interface {
		seal(packet []byte, n int, nextHeader byte, spi uint32, seq, iv uint64) []byte
	})
	if got := sealer.seal(packet, len(inner), nextHeader, spi, seq, iv); !bytes.Equal(got, want) {
		t.Errorf("sealed\n%x, want\n%x", got, want)
	}
	got, next, err := tr.Open(want, seq)
	if err != nil || next != nextHeader || !bytes.Equal(got, inner) {
		t.Errorf("opened %x, next header %d, %v", got, next, err)
	}
}

// TestChaCha20Poly1305Vector: RFC 7634 appendix A.
func TestChaCha20Poly1305Vector(t *testing.T) {
	key := unhex(t, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3")
	plaintext := unhex(t, `
		45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
		0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
		2425262728292a2b2c2d2e2f303132333435363701020204`)
	packet := unhex(t, `
		01020304000000051011121314151617
		24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
		14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
		cbec163fac469b502773f6fb94e664da9165b82829f641e0
		76aaa8266b7fb0f7b11b369907e1ad43`)
	checkAEAD(t, dataplane.Algorithm{Encryption: dataplane.EncryptionChaCha20Poly1305}, key, false, 5, plaintext, packet)
}

// cbcVectors are the ESP packets of RFC 3602 section 4, cases 5 to 8, which
// have no ICV.
var cbcVectors = []struct {
	key        string
	seq        uint64
	inner      string
	nextHeader byte
	packet     string
}{
	{
		"90d382b410eeba7ad938c46cec1a82bf", 1,
		`08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f1011121314151617
		 18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637`, 1,
		`0000432100000001e96e8c08ab465763fd098d45dd3ff893
		 f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856
		 a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a
		 a269add047ad2d5913ac19b7cfbad4a6`,
	},
	{
		"90d382b410eeba7ad938c46cec1a82bf", 8,
		`0800b5e8a80a0500a69c083d0b660e00777777777777777777777777`, 1,
		`000043210000000869d08df7d203329db093fc4924e5bd80
		 f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75`,
	},
	{
		"0123456789abcdef0123456789abcdef", 2,
		`45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d
		 02a2040008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
		 2425262728292a2b2c2d2e2f3031323334353637`, 4,
		`0000876500000002f4e765244f6407adf13dc1380f673f37
		 773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8
		 e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5
		 c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d`,
	},
	{
		"0123456789abcdef0123456789abcdef", 5,
		`45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083d
		 a3de0300ffffffffffffffffffffffffffffffffffffffffffffffffffffffff
		 ffffffff`, 4,
		`000087650000000585d47224b5f3dd5d2101d4ea8dffab22
		 15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5
		 0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3
		 d2726d9b5ef6affc6d17a0decbb13892`,
	},
}

func TestCBCVectors(t *testing.T) {
	alg := dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA256}
	for i, v := range cbcVectors {
		t.Run(strconv.Itoa(i+5), func(t *testing.T) {
			checkCBC(t, alg, unhex(t, v.key), v.seq, unhex(t, v.inner), v.nextHeader, unhex(t, v.packet))
		})
	}
}

// checkCBC seals with the IV of a packet without ICV, and opens it with its own.
func checkCBC(t *testing.T, alg dataplane.Algorithm, key []byte, seq uint64, inner []byte, nextHeader byte, want []byte) {
	t.Helper()
	_, integrity, err := KeyLen(alg)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(alg, dataplane.Keys{Encryption: key, Integrity: make([]byte, integrity)}, false)
	if err != nil {
		t.Fatal(err)
	}
	c := tr.(*cbc)
	packet := make([]byte, c.SealedLen(len(inner)))
	copy(packet[fixedLen:], want[fixedLen:c.HeaderLen()])
	copy(packet[c.HeaderLen():], inner)
	packet = c.sealIV(packet, len(inner), nextHeader, binary.BigEndian.Uint32(want), seq)
	if got := packet[:len(packet)-c.icvLen]; !bytes.Equal(got, want) {
		t.Errorf("sealed\n%x, want\n%x", got, want)
	}
	got, next, err := c.Open(packet, seq)
	if err != nil || next != nextHeader || !bytes.Equal(got, inner) {
		t.Errorf("opened %x, next header %d, %v", got, next, err)
	}
}

// TestTripleDESVector: the key of NIST SP 800-67 appendix B.1. RFC 2451 has no
// packets; the ciphertext is what `openssl enc -des-ede3-cbc -nopad` makes.
func TestTripleDESVector(t *testing.T) {
	alg := dataplane.Algorithm{Encryption: dataplane.EncryptionTripleDES, Integrity: dataplane.IntegrityHMACSHA1}
	checkCBC(t, alg, unhex(t, "0123456789abcdef 23456789abcdef01 456789abcdef0123"), 7,
		unhex(t, "4500001c42a200008001441f406793b6e00000020a00f5ff00010203"), 4,
		unhex(t, `0000432100000007 0102030405060708
			9f30dd670a11044ff0108cfbfea69ec9d590e911b46f91280b0d5cb54366727d`))
}

// TestICVVectors: RFC 2202 section 3, case 1; RFC 4868 section 2.7.2, cases
// AUTH256-1, AUTH384-1, AUTH512-1.
func TestICVVectors(t *testing.T) {
	for integrity, want := range map[uint16]string{
		dataplane.IntegrityHMACSHA1:   "b617318655057264e28bc0b6",
		dataplane.IntegrityHMACSHA256: "198a607eb44bfbc69903a0f1cf2bbdc5",
		dataplane.IntegrityHMACSHA384: "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
		dataplane.IntegrityHMACSHA512: "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
	} {
		alg := dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: integrity}
		_, keyLen, err := KeyLen(alg)
		if err != nil {
			t.Fatal(err)
		}
		keys := dataplane.Keys{Encryption: make([]byte, 16), Integrity: bytes.Repeat([]byte{0x0b}, keyLen)}
		tr, err := New(alg, keys, false)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the hash is used again
			if got := tr.(*cbc).icv([]byte("Hi There"), 0); !bytes.Equal(got, unhex(t, want)) {
				t.Errorf("integrity %d: ICV %x, want %s", integrity, got, want)
			}
		}
	}
}
