//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "ghash_amd64.h"

// hashKeys makes the powers of H. Registers are those of ghash_amd64.h, but DI is at the
// round keys, CX counts, Z1 is what was made last, and Z0 what it is multiplied with.
//
// func hashKeys(k *Key)
TEXT ·hashKeys(SB), NOSPLIT, $0-8
	MOVQ k+0(FP), SI
	CONSTANTS

	// H = E(0) (SP 800-38D section 7.1, step 1)
	MOVQ  Key_count(SI), CX
	LEAQ  RK(0), DI
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

	// H^2 to H^4: each is the one before it times H. H^(i-1) * x^-1 times H * x^-1 is
	// reduced to H^i * x^-1.
	VMOVDQA X0, X1
	MOVQ    $(H1-16-Key_powers), CX
power:
	MULTIPLY(Z1, Z0)
	LOTOMI
	MITOHI
	VMOVDQA X14, X1
	VMOVDQU X1, Key_powers(SI)(CX*1)
	SUBQ    $16, CX
	CMPQ    CX, $(H4-Key_powers)
	JAE     power

	// The four before four others are those times H^4; of the last four it is H^17.
	VMOVDQU64       H4(SI), Z1
	VBROADCASTI32X4 H4(SI), Z0
	MOVQ            $(H4-64-Key_powers), CX
powers:
	MULTIPLY(Z1, Z0)
	LOTOMI
	MITOHI
	VMOVDQA64 Z14, Z1
	VMOVDQU64 Z1, Key_powers(SI)(CX*1)
	SUBQ      $64, CX
	JAE       powers
	MULTIPLY(Z1, Z0)
	LOTOMI
	MITOHI
	VEXTRACTI32X4 $3, Z14, X1
	VMOVDQU       X1, Key_powers(SI)
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
