//go:build !purego

#include "textflag.h"

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
// Mode", 2010. A product is four of 64 bits (schoolbook): low * low in LO, high * high
// in HI, the two others in MI, which belongs between them.
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
//	                     Z22      J0 reversed     Z24  J0, then E(J0), in lane 0
//	                     Z25-Z28  products        Z29  powers of the tail
//	                     Z30      lengths, in lane 0
//
// R14 and X15 are Go's and aren't touched. Nothing branches or looks up by what is
// secret. Loads and stores of the last vector are masked: octets behind the mask are
// neither read nor written, and can't fault.

// Offsets in Key.
#define H17 0
#define H16 16
#define H1 256
#define ROUNDS 272
#define COUNT 512

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

// What the first four counters are above that of J0.
DATA first<>+0(SB)/8, $1
DATA first<>+8(SB)/8, $0
DATA first<>+16(SB)/8, $2
DATA first<>+24(SB)/8, $0
DATA first<>+32(SB)/8, $3
DATA first<>+40(SB)/8, $0
DATA first<>+48(SB)/8, $4
DATA first<>+56(SB)/8, $0
GLOBL first<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $16

DATA poly<>+0(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $8

// GHASH

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

// AES

// COUNTERS are the next four.
#define COUNTERS(blocks) \
	VPSHUFB BSWAP, Z18, blocks \
	VPADDD  Z19, Z18, Z18

// Rounds of n vectors (4: of the loop, without J0) under the round key at an address.
#define WHITEN4(key) \
	VBROADCASTI32X4 key, KEY \
	VPXORD KEY, Z0, Z0 \
	VPXORD KEY, Z1, Z1 \
	VPXORD KEY, Z2, Z2 \
	VPXORD KEY, Z3, Z3

#define ROUND4(key) \
	VBROADCASTI32X4 key, KEY \
	VAESENC KEY, Z0, Z0 \
	VAESENC KEY, Z1, Z1 \
	VAESENC KEY, Z2, Z2 \
	VAESENC KEY, Z3, Z3

#define LAST4(key) \
	VBROADCASTI32X4 key, KEY \
	VAESENCLAST KEY, Z0, Z0 \
	VAESENCLAST KEY, Z1, Z1 \
	VAESENCLAST KEY, Z2, Z2 \
	VAESENCLAST KEY, Z3, Z3

// LASTROUNDS are what AES has behind the ninth round: 1, 3 or 5 (FIPS 197 section 5).
#define LASTROUNDS(ROUND, LAST, done) \
	CMPQ R8, $12          \
	JB   done             \
	ROUND(432(SI))        \
	ROUND(448(SI))        \
	JE   done             \
	ROUND(464(SI))        \
	ROUND(480(SI))        \
done:                     \
	LAST(0(R9))

// ALLROUNDS encrypts without hashing in between.
#define ALLROUNDS(WHITEN, ROUND, LAST, done) \
	WHITEN(272(SI))       \
	ROUND(288(SI))        \
	ROUND(304(SI))        \
	ROUND(320(SI))        \
	ROUND(336(SI))        \
	ROUND(352(SI))        \
	ROUND(368(SI))        \
	ROUND(384(SI))        \
	ROUND(400(SI))        \
	ROUND(416(SI))        \
	LASTROUNDS(ROUND, LAST, done)

// HASHROUNDS encrypts Z0-Z3 while it hashes the sixteen blocks in Z4-Z7: the multiplier
// works while the results of a round aren't there yet.
#define HASHROUNDS(done) \
	VPXORD Y, Z4, Z4      \
	WHITEN4(272(SI))      \
	ROUND4(288(SI))       \
	MULTIPLY(Z4, Z8)      \
	ROUND4(304(SI))       \
	MULTIPLYADD(Z5, Z9)   \
	ROUND4(320(SI))       \
	MULTIPLYADD(Z6, Z10)  \
	ROUND4(336(SI))       \
	MULTIPLYADD(Z7, Z11)  \
	ROUND4(352(SI))       \
	LOTOMI                \
	ROUND4(368(SI))       \
	ROUND4(384(SI))       \
	MITOHI                \
	ROUND4(400(SI))       \
	ROUND4(416(SI))       \
	FOLD                  \
	LASTROUNDS(ROUND4, LAST4, done)

#define COUNTERS4 \
	COUNTERS(Z0) \
	COUNTERS(Z1) \
	COUNTERS(Z2) \
	COUNTERS(Z3)

// XORTEXT makes Z0-Z3 what becomes of 256 octets of text.
#define XORTEXT \
	VPXORD 0(DI), Z0, Z0   \
	VPXORD 64(DI), Z1, Z1  \
	VPXORD 128(DI), Z2, Z2 \
	VPXORD 192(DI), Z3, Z3

#define STORETEXT \
	VMOVDQU64 Z0, 0(DI)   \
	VMOVDQU64 Z1, 64(DI)  \
	VMOVDQU64 Z2, 128(DI) \
	VMOVDQU64 Z3, 192(DI)

#define POWERS \
	VMOVDQU64 (H16+0)(SI), Z8    \
	VMOVDQU64 (H16+64)(SI), Z9   \
	VMOVDQU64 (H16+128)(SI), Z10 \
	VMOVDQU64 (H16+192)(SI), Z11

// CONSTANTS that hashing needs.
#define CONSTANTS \
	VBROADCASTI32X4 bswap<>(SB), BSWAP \
	VPBROADCASTQ    poly<>(SB), POLY

// START loads the arguments, hashes the block of AAD (H times zero if there is none),
// and begins the sum of the tail with the block of lengths (SP 800-38D section 7.1,
// step 5): it comes last, so that its power is H.
#define START \
	MOVQ            k+0(FP), SI         \
	MOVQ            text+8(FP), DI      \
	MOVQ            n+16(FP), CX        \
	CONSTANTS                           \
	VMOVDQU64       H1(SI), Z29         \
	VMOVQ           aadLow+48(FP), X0   \
	VPINSRQ         $1, aadHigh+40(FP), X0, X0 \
	MULTIPLY(Z0, Z29)                   \
	LOTOMI                              \
	MITOHI                              \
	VMOVDQA32       X14, X21            \
	LEAQ            (CX*8), AX          \
	VMOVQ           AX, X1              \
	VPINSRQ         $1, aadBits+56(FP), X1, X1 \
	VMOVDQA32       X1, X30             \
	VMOVQ           j0Low+32(FP), X2    \
	VPINSRQ         $1, j0High+24(FP), X2, X2 \
	VPSHUFB         X17, X2, X24        \
	VSHUFI32X4      $0, Z2, Z2, Z18     \
	VPADDD          first<>(SB), Z18, Z18 \
	VBROADCASTI32X4 four<>(SB), Z19     \
	MOVQ            COUNT(SI), R8       \
	MOVQ            R8, R9              \
	SHLQ            $4, R9              \
	LEAQ            ROUNDS(SI)(R9*1), R9

// The tail
//
// The last 0 to 255 octets are 1 to 4 vectors, of which the last is masked (none at all:
// all of it). They are hashed with E(J0) and the lengths: b blocks take H^(b+1) to H^2,
// which stand from index 16-b on. Lanes behind them get zero times what is there.

// TAILPOWERS leaves the address of the first power in BX and begins the sum.
#define TAILPOWERS \
	LEAQ      15(CX), BX      \
	ANDQ      $~15, BX        \
	NEGQ      BX              \
	LEAQ      256(SI)(BX*1), BX \
	VMOVDQU64 H1(SI), Z29     \
	MULTIPLY(Z30, Z29)

// MASK is of the octets that are left behind full octets of vectors.
#define MASK(full) \
	LEAQ  -full(CX), DX \
	MOVQ  $-1, AX       \
	BZHIQ DX, AX, AX    \
	KMOVQ AX, K1

#define WHITENTAIL1(key) \
	VBROADCASTI32X4 key, KEY \
	VPXORD X20, X24, X24 \
	VPXORD KEY, Z0, Z0

#define WHITENTAIL2(key) WHITENTAIL1(key) \
	VPXORD KEY, Z1, Z1

#define WHITENTAIL3(key) WHITENTAIL2(key) \
	VPXORD KEY, Z2, Z2

#define WHITENTAIL4(key) WHITENTAIL3(key) \
	VPXORD KEY, Z3, Z3

#define ROUNDTAIL1(key) \
	VBROADCASTI32X4 key, KEY \
	VAESENC X20, X24, X24 \
	VAESENC KEY, Z0, Z0

#define ROUNDTAIL2(key) ROUNDTAIL1(key) \
	VAESENC KEY, Z1, Z1

#define ROUNDTAIL3(key) ROUNDTAIL2(key) \
	VAESENC KEY, Z2, Z2

#define ROUNDTAIL4(key) ROUNDTAIL3(key) \
	VAESENC KEY, Z3, Z3

#define LASTTAIL1(key) \
	VBROADCASTI32X4 key, KEY \
	VAESENCLAST X20, X24, X24 \
	VAESENCLAST KEY, Z0, Z0

#define LASTTAIL2(key) LASTTAIL1(key) \
	VAESENCLAST KEY, Z1, Z1

#define LASTTAIL3(key) LASTTAIL2(key) \
	VAESENCLAST KEY, Z2, Z2

#define LASTTAIL4(key) LASTTAIL3(key) \
	VAESENCLAST KEY, Z3, Z3

// HASHTAIL hashes a vector of ciphertext with the powers at an offset from BX.
#define HASHTAIL(blocks, offset) \
	VPSHUFB   BSWAP, blocks, blocks \
	VMOVDQU64 offset(BX), Z29       \
	MULTIPLYADD(blocks, Z29)

// The first one has Y added to it.
#define HASHTAILFIRST \
	VPSHUFB   BSWAP, Z4, Z4 \
	VPXORD    Y, Z4, Z4     \
	VMOVDQU64 0(BX), Z29    \
	MULTIPLYADD(Z4, Z29)

// SEALFULL encrypts a full vector, OPENFULL decrypts it; LAST: the masked one. They
// leave the ciphertext in hashed.
#define SEALFULL(offset, keystream, hashed) \
	VPXORD    offset(DI), keystream, hashed \
	VMOVDQU64 hashed, offset(DI)

#define SEALLAST(offset, keystream, hashed) \
	VMOVDQU8.Z offset(DI), K1, hashed \
	VPXORD     keystream, hashed, keystream \
	VMOVDQU8   keystream, K1, offset(DI) \
	VMOVDQU8.Z keystream, K1, hashed

#define OPENFULL(offset, keystream, text) \
	VPXORD    text, keystream, keystream \
	VMOVDQU64 keystream, offset(DI)

#define OPENLAST(offset, keystream, text) \
	VPXORD   text, keystream, keystream \
	VMOVDQU8 keystream, K1, offset(DI)

// ICV leaves GHASH(...) + E(J0) (SP 800-38D section 7.1, step 6) in X0.
#define ICV \
	LOTOMI                \
	MITOHI                \
	FOLD                  \
	VPSHUFB X17, X21, X21 \
	VPXORD  X24, X21, X0

// func seal(k *Key, text *byte, n int, j0High, j0Low, aadHigh, aadLow, aadBits uint64)
TEXT ·seal(SB), NOSPLIT, $0-64
	START
	CMPQ CX, $256
	JB   tail
	POWERS

	// The first 256 octets have no ciphertext to be hashed before them.
	COUNTERS4
	ALLROUNDS(WHITEN4, ROUND4, LAST4, first)
	JMP store

loop:
	COUNTERS4
	HASHROUNDS(next)

store:
	XORTEXT
	STORETEXT
	VPSHUFB BSWAP, Z0, Z4
	VPSHUFB BSWAP, Z1, Z5
	VPSHUFB BSWAP, Z2, Z6
	VPSHUFB BSWAP, Z3, Z7
	ADDQ    $256, DI
	SUBQ    $256, CX
	CMPQ    CX, $256
	JAE     loop

	VPXORD Y, Z4, Z4
	MULTIPLY(Z4, Z8)
	MULTIPLYADD(Z5, Z9)
	MULTIPLYADD(Z6, Z10)
	MULTIPLYADD(Z7, Z11)
	LOTOMI
	MITOHI
	FOLD

tail:
	TAILPOWERS
	CMPQ CX, $128
	JA   over128
	CMPQ CX, $64
	JA   two

	MASK(0)
	COUNTERS(Z0)
	ALLROUNDS(WHITENTAIL1, ROUNDTAIL1, LASTTAIL1, tail1)
	SEALLAST(0, Z0, Z4)
	HASHTAILFIRST
	JMP  icv

two:
	MASK(64)
	COUNTERS(Z0)
	COUNTERS(Z1)
	ALLROUNDS(WHITENTAIL2, ROUNDTAIL2, LASTTAIL2, tail2)
	SEALFULL(0, Z0, Z4)
	SEALLAST(64, Z1, Z5)
	HASHTAILFIRST
	HASHTAIL(Z5, 64)
	JMP  icv

over128:
	CMPQ CX, $192
	JA   four

	MASK(128)
	COUNTERS(Z0)
	COUNTERS(Z1)
	COUNTERS(Z2)
	ALLROUNDS(WHITENTAIL3, ROUNDTAIL3, LASTTAIL3, tail3)
	SEALFULL(0, Z0, Z4)
	SEALFULL(64, Z1, Z5)
	SEALLAST(128, Z2, Z6)
	HASHTAILFIRST
	HASHTAIL(Z5, 64)
	HASHTAIL(Z6, 128)
	JMP  icv

four:
	MASK(192)
	COUNTERS4
	ALLROUNDS(WHITENTAIL4, ROUNDTAIL4, LASTTAIL4, tail4)
	SEALFULL(0, Z0, Z4)
	SEALFULL(64, Z1, Z5)
	SEALFULL(128, Z2, Z6)
	SEALLAST(192, Z3, Z7)
	HASHTAILFIRST
	HASHTAIL(Z5, 64)
	HASHTAIL(Z6, 128)
	HASHTAIL(Z7, 192)

icv:
	ICV
	VMOVDQU X0, (DI)(CX*1)
	VZEROUPPER
	RET

// func open(k *Key, text *byte, n int, j0High, j0Low, aadHigh, aadLow, aadBits uint64) bool
TEXT ·open(SB), NOSPLIT, $0-65
	START
	CMPQ CX, $256
	JB   tail
	POWERS

loop:
	// What is hashed was there before.
	VMOVDQU64 0(DI), Z4
	VMOVDQU64 64(DI), Z5
	VMOVDQU64 128(DI), Z6
	VMOVDQU64 192(DI), Z7
	VPSHUFB   BSWAP, Z4, Z4
	VPSHUFB   BSWAP, Z5, Z5
	VPSHUFB   BSWAP, Z6, Z6
	VPSHUFB   BSWAP, Z7, Z7
	COUNTERS4
	HASHROUNDS(next)
	XORTEXT
	STORETEXT
	ADDQ      $256, DI
	SUBQ      $256, CX
	CMPQ      CX, $256
	JAE       loop

tail:
	TAILPOWERS
	CMPQ CX, $128
	JA   over128
	CMPQ CX, $64
	JA   two

	MASK(0)
	VMOVDQU8.Z (DI), K1, Z4
	COUNTERS(Z0)
	ALLROUNDS(WHITENTAIL1, ROUNDTAIL1, LASTTAIL1, tail1)
	OPENLAST(0, Z0, Z4)
	HASHTAILFIRST
	JMP  icv

two:
	MASK(64)
	VMOVDQU64  0(DI), Z4
	VMOVDQU8.Z 64(DI), K1, Z5
	COUNTERS(Z0)
	COUNTERS(Z1)
	ALLROUNDS(WHITENTAIL2, ROUNDTAIL2, LASTTAIL2, tail2)
	OPENFULL(0, Z0, Z4)
	OPENLAST(64, Z1, Z5)
	HASHTAILFIRST
	HASHTAIL(Z5, 64)
	JMP  icv

over128:
	CMPQ CX, $192
	JA   four

	MASK(128)
	VMOVDQU64  0(DI), Z4
	VMOVDQU64  64(DI), Z5
	VMOVDQU8.Z 128(DI), K1, Z6
	COUNTERS(Z0)
	COUNTERS(Z1)
	COUNTERS(Z2)
	ALLROUNDS(WHITENTAIL3, ROUNDTAIL3, LASTTAIL3, tail3)
	OPENFULL(0, Z0, Z4)
	OPENFULL(64, Z1, Z5)
	OPENLAST(128, Z2, Z6)
	HASHTAILFIRST
	HASHTAIL(Z5, 64)
	HASHTAIL(Z6, 128)
	JMP  icv

four:
	MASK(192)
	VMOVDQU64  0(DI), Z4
	VMOVDQU64  64(DI), Z5
	VMOVDQU64  128(DI), Z6
	VMOVDQU8.Z 192(DI), K1, Z7
	COUNTERS4
	ALLROUNDS(WHITENTAIL4, ROUNDTAIL4, LASTTAIL4, tail4)
	OPENFULL(0, Z0, Z4)
	OPENFULL(64, Z1, Z5)
	OPENFULL(128, Z2, Z6)
	OPENLAST(192, Z3, Z7)
	HASHTAILFIRST
	HASHTAIL(Z5, 64)
	HASHTAIL(Z6, 128)
	HASHTAIL(Z7, 192)

icv:
	ICV
	VPXOR (DI)(CX*1), X0, X0
	VPTEST X0, X0
	SETEQ ret+64(FP)
	VZEROUPPER
	RET

// func hashKeys(k *Key)
TEXT ·hashKeys(SB), NOSPLIT, $0-8
	MOVQ k+0(FP), SI
	CONSTANTS

	// H = E(0) (SP 800-38D section 7.1, step 1)
	MOVQ  COUNT(SI), CX
	LEAQ  ROUNDS(SI), DI
	VMOVDQU (DI), X0
round:
	ADDQ  $16, DI
	DECQ  CX
	JZ    last
	VAESENC (DI), X0, X0
	JMP   round
last:
	VAESENCLAST (DI), X0, X0
	VPSHUFB X17, X0, X0

	// H * x^-1: one to the left, and x^-1 instead of the bit that leaves.
	VMOVQ   X0, AX
	VPEXTRQ $1, X0, BX
	MOVQ    BX, DX
	SARQ    $63, DX
	SHLQ    $1, AX, BX
	SHLQ    $1, AX
	MOVQ    $0xc200000000000000, R9
	ANDQ    DX, R9
	XORQ    R9, BX
	ANDQ    $1, DX
	XORQ    DX, AX
	VMOVQ   AX, X0
	VPINSRQ $1, BX, X0, X0
	VMOVDQU X0, H1(SI)

	VMOVDQA X0, X1
	MOVQ    $(H1-16), CX
power:
	MULTIPLY(Z1, Z0)
	LOTOMI
	MITOHI
	VMOVDQA X14, X1
	VMOVDQU X1, (SI)(CX*1)
	SUBQ    $16, CX
	JAE     power
	VZEROUPPER
	RET

// func subWord(w uint32) uint32
TEXT ·subWord(SB), NOSPLIT, $0-12
	// All columns are the same, so ShiftRows changes nothing; the round key is zero.
	MOVL w+0(FP), AX
	VMOVD AX, X0
	VPSHUFD $0, X0, X0
	VPXOR X1, X1, X1
	VAESENCLAST X1, X0, X0
	VMOVD X0, AX
	MOVL AX, ret+8(FP)
	RET
