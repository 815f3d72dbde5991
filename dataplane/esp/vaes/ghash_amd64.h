// AES-GCM (NIST SP 800-38D) with AVX-512, VAES and VPCLMULQDQ
//
// Blocks and integers. A block is a polynomial over GF(2) whose first bit is the
// coefficient of x^0 (SP 800-38D section 6.3). Hashed blocks have their octets
// reversed (BSWAP), so that bit i of a 128-bit integer is the coefficient of x^(127-i).
// Counter blocks are kept that way too: the counter is doubleword 0, and VPADDD is
// inc32 (section 6.2).
//
// Products. Bit k of the carry-less product of two such integers belongs to x^(254-k),
// and one shift to the left would make it x^(255-k): then the high half would be the
// part below x^128. Instead of each product the powers of H are shifted, once
// (hashKeys): what stands in Key.powers is H^i * x^-1, and x^-1 is
// x^127 + x^6 + x + 1 because x^128 = x^7 + x^2 + x + 1 (section 6.3).
//
// Aggregation. GHASH (section 6.4) of m blocks with Y before them is
//	(Y + B1)*H^m + B2*H^(m-1) + ... + Bm*H
// whose 256-bit products are added up first and reduced once: S. Gueron, M. Kounavis,
// "Intel Carry-Less Multiplication Instruction and its Usage for Computing the GCM
// Mode", rev. 2.02, 2014. A product is four of 64 bits (schoolbook): low * low in LO,
// high * high in HI, the two others in MI, which belongs between them.
//
// Reduction. The lowest 64 bits L belong to x^192 to x^255. Times x^128 is times
// 1 + x + x^2 + x^7: L itself 128 bits higher, and 2^63 + 2^62 + 2^57 times L 64 bits
// higher. So LO with its halves swapped and POLY * (low half of LO) are added to MI,
// and the same once more takes MI into HI.
//
// Registers, the same everywhere:
//
//	SI  key              Z0-Z3    counter blocks, then keystream, then text
//	DI  text             Z4-Z7    blocks to be hashed
//	CX  octets left      Z8-Z11   H^16..H^13, H^12..H^9, H^8..H^5, H^4..H^1
//	R9  last round key   Z12-Z14  LO, MI, HI
//	R8  count of rounds  Z16      POLY            Z17  BSWAP
//	K1  octets of the    Z18      next counters   Z19  {4, 4, 4, 4}
//	    last vector      Z20      round key       Z21  Y, in lane 0
//	AX, DX  for the      Z24      J0, then E(J0), in lane 0
//	    moment           Z25-Z28  products        Z29  powers of the tail
//	BX  its powers       Z30      lengths, in lane 0
//
// R14 and X15 are Go's and aren't touched. Nothing branches or looks up by what is
// secret. The last instruction zeroes the upper halves, as others expect that use SSE
// (registers from 16 on don't matter for that). Loads and stores of the last vector are masked: octets behind the mask are
// neither read nor written, and can't fault.

// Offsets in Key: of powers of H, and of a round key.
#define H16 (Key_powers+16)
#define H4 (Key_powers+208)
#define H1 (Key_powers+256)
#define RK(i) (Key_rounds+16*i)(SI)

#define BSWAP Z17
#define POLY Z16
#define KEY Z20
#define Y Z21
#define LO Z12
#define MI Z13
#define HI Z14

DATA bswap<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA bswap<>+8(SB)/8, $0x0001020304050607
GLOBL bswap<>(SB), RODATA|NOPTR, $16

DATA poly<>+0(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $8

// MULTIPLY begins a sum of products with four blocks and four powers, one a lane.
#define MULTIPLY(blocks, powers) \
	VPCLMULQDQ $0x00, powers, blocks, LO  \
	VPCLMULQDQ $0x11, powers, blocks, HI  \
	VPCLMULQDQ $0x01, powers, blocks, MI  \
	VPCLMULQDQ $0x10, powers, blocks, Z25 \
	VPXORD     Z25, MI, MI

// MULTIPLYADD adds products to the sum. (0x96: the sum of all three.)
#define MULTIPLYADD(blocks, powers) \
	VPCLMULQDQ $0x00, powers, blocks, Z25 \
	VPCLMULQDQ $0x11, powers, blocks, Z26 \
	VPCLMULQDQ $0x01, powers, blocks, Z27 \
	VPCLMULQDQ $0x10, powers, blocks, Z28 \
	VPXORD     Z25, LO, LO                \
	VPXORD     Z26, HI, HI                \
	VPTERNLOGD $0x96, Z27, Z28, MI

// LOTOMI and MITOHI are the steps of the reduction, after which HI has it by lanes.
#define LOTOMI \
	VPCLMULQDQ $0x00, POLY, LO, Z25 \
	VPSHUFD    $0x4e, LO, LO        \
	VPTERNLOGD $0x96, Z25, LO, MI

#define MITOHI \
	VPCLMULQDQ $0x00, POLY, MI, Z25 \
	VPSHUFD    $0x4e, MI, MI        \
	VPTERNLOGD $0x96, Z25, MI, HI

// FOLD adds the lanes of HI up; all others of Y are zero.
#define FOLD \
	VEXTRACTI64X4 $1, HI, Y25    \
	VPXORD        Y25, Y14, Y14  \
	VEXTRACTI32X4 $1, Y14, X25   \
	VPXORD        X25, X14, X21

// CONSTANTS that hashing needs.
#define CONSTANTS \
	VBROADCASTI32X4 bswap<>(SB), BSWAP \
	VPBROADCASTQ    poly<>(SB), POLY
