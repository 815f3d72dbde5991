//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "ghash_amd64.h"

// Sealing and opening. What the registers have is in ghash_amd64.h.

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

// AES

// COUNTERS are the next four.
#define COUNTERS(blocks) \
	VPSHUFB BSWAP, Z18, blocks \
	VPADDD  Z19, Z18, Z18

// LOOPSTEP takes Z0-Z3 one step of AES further, under the round key at an address: VPXORD
// the first, VAESENC those between, VAESENCLAST the last one.
#define LOOPSTEP(OP, key) \
	VBROADCASTI32X4 key, KEY \
	OP KEY, Z0, Z0 \
	OP KEY, Z1, Z1 \
	OP KEY, Z2, Z2 \
	OP KEY, Z3, Z3

// LASTROUNDS are what AES has behind the ninth round: 1, 3 or 5 (FIPS 197 section 5).
#define LASTROUNDS(STEP, done) \
	CMPQ R8, $12            \
	JB   done               \
	STEP(VAESENC, RK(10))   \
	STEP(VAESENC, RK(11))   \
	JE   done               \
	STEP(VAESENC, RK(12))   \
	STEP(VAESENC, RK(13))   \
done:                       \
	STEP(VAESENCLAST, 0(R9))

// ALLROUNDS encrypts without hashing in between.
#define ALLROUNDS(STEP, done) \
	STEP(VPXORD, RK(0))  \
	STEP(VAESENC, RK(1)) \
	STEP(VAESENC, RK(2)) \
	STEP(VAESENC, RK(3)) \
	STEP(VAESENC, RK(4)) \
	STEP(VAESENC, RK(5)) \
	STEP(VAESENC, RK(6)) \
	STEP(VAESENC, RK(7)) \
	STEP(VAESENC, RK(8)) \
	STEP(VAESENC, RK(9)) \
	LASTROUNDS(STEP, done)

// HASHROUNDS encrypts Z0-Z3 while it hashes the sixteen blocks in Z4-Z7: the multiplier
// works while the results of a round aren't there yet.
#define HASHROUNDS(done) \
	VPXORD Y, Z4, Z4          \
	LOOPSTEP(VPXORD, RK(0))   \
	LOOPSTEP(VAESENC, RK(1))  \
	MULTIPLY(Z4, Z8)          \
	LOOPSTEP(VAESENC, RK(2))  \
	MULTIPLYADD(Z5, Z9)       \
	LOOPSTEP(VAESENC, RK(3))  \
	MULTIPLYADD(Z6, Z10)      \
	LOOPSTEP(VAESENC, RK(4))  \
	MULTIPLYADD(Z7, Z11)      \
	LOOPSTEP(VAESENC, RK(5))  \
	LOTOMI                    \
	LOOPSTEP(VAESENC, RK(6))  \
	LOOPSTEP(VAESENC, RK(7))  \
	MITOHI                    \
	LOOPSTEP(VAESENC, RK(8))  \
	LOOPSTEP(VAESENC, RK(9))  \
	FOLD                      \
	LASTROUNDS(LOOPSTEP, done)

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

// START loads the arguments, hashes the block of AAD (H times zero if there is none),
// and makes the block of lengths, which is hashed last (SP 800-38D section 7.1, step 5),
// J0 and the first counters.
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
	MOVQ            Key_count(SI), R8   \
	MOVQ            R8, R9              \
	SHLQ            $4, R9              \
	LEAQ            Key_rounds(SI)(R9*1), R9

// The tail
//
// The last 0 to 255 octets are 1 to 4 vectors, of which the last is masked, so that it
// may have no octets at all. They are encrypted beside J0 and hashed with the lengths,
// which take H: b blocks take H^(b+1) to H^2, which stand from index 16-b of the powers
// on. Lanes behind them are zero, whatever they are multiplied with.

// TAILPOWERS leaves the address of the first power in BX and begins the sum with the
// lengths.
#define TAILPOWERS \
	LEAQ      15(CX), BX      \
	ANDQ      $~15, BX        \
	NEGQ      BX              \
	LEAQ      H1(SI)(BX*1), BX \
	VMOVDQU64 H1(SI), Z29     \
	MULTIPLY(Z30, Z29)

// MASK is of the octets that are left behind full octets of vectors.
#define MASK(full) \
	LEAQ  -full(CX), DX \
	MOVQ  $-1, AX       \
	BZHIQ DX, AX, AX    \
	KMOVQ AX, K1

// TAILSTEP1 to 4 are LOOPSTEP for J0 and that many vectors.
#define TAILSTEP1(OP, key) \
	VBROADCASTI32X4 key, KEY \
	OP X20, X24, X24 \
	OP KEY, Z0, Z0

#define TAILSTEP2(OP, key) TAILSTEP1(OP, key) \
	OP KEY, Z1, Z1

#define TAILSTEP3(OP, key) TAILSTEP2(OP, key) \
	OP KEY, Z2, Z2

#define TAILSTEP4(OP, key) TAILSTEP3(OP, key) \
	OP KEY, Z3, Z3

// HASHTAIL hashes a vector of ciphertext with the powers at an offset from BX.
#define HASHTAIL(blocks, offset) \
	VPSHUFB   BSWAP, blocks, blocks \
	VMOVDQU64 offset(BX), Z29       \
	MULTIPLYADD(blocks, Z29)

// HASHTAILFIRST does so for the first one, to which Y is added.
#define HASHTAILFIRST \
	VPSHUFB   BSWAP, Z4, Z4 \
	VPXORD    Y, Z4, Z4     \
	VMOVDQU64 0(BX), Z29    \
	MULTIPLYADD(Z4, Z29)

// SEALFULL encrypts a full vector and leaves the ciphertext in hashed, OPENFULL decrypts
// one that was loaded before; LAST: the masked one, with zeros behind the mask.
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
	ALLROUNDS(LOOPSTEP, first)
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
	ALLROUNDS(TAILSTEP1, tail1)
	SEALLAST(0, Z0, Z4)
	HASHTAILFIRST
	JMP  icv

two:
	MASK(64)
	COUNTERS(Z0)
	COUNTERS(Z1)
	ALLROUNDS(TAILSTEP2, tail2)
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
	ALLROUNDS(TAILSTEP3, tail3)
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
	ALLROUNDS(TAILSTEP4, tail4)
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
	ALLROUNDS(TAILSTEP1, tail1)
	OPENLAST(0, Z0, Z4)
	HASHTAILFIRST
	JMP  icv

two:
	MASK(64)
	VMOVDQU64  0(DI), Z4
	VMOVDQU8.Z 64(DI), K1, Z5
	COUNTERS(Z0)
	COUNTERS(Z1)
	ALLROUNDS(TAILSTEP2, tail2)
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
	ALLROUNDS(TAILSTEP3, tail3)
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
	ALLROUNDS(TAILSTEP4, tail4)
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
