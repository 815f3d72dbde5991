//go:build amd64 && !purego

#include "textflag.h"

// A 64-bit word is high*2^32 + low, and 2^32 is 1 modulo 2^16-1: high + low has
// the same sum. Two running sums find those of all words together, without a
// carry to look after: all = the sum of the words modulo 2^64, high = that of the
// words shifted by 32. That of the low halves is all - high<<32, which is exact
// below 2^35 octets.
//
// Y0..Y3 are all, Y4..Y7 high.

#define WORDS(offset, data, all, high) \
	VMOVDQU offset(SI), data     \
	VPADDQ  data, all, all       \
	VPSRLQ  $32, data, data      \
	VPADDQ  data, high, high

// func sumVectors(b []byte, acc uint64) uint64
TEXT ·sumVectors(SB), NOSPLIT, $0-40
	MOVQ  b_base+0(FP), SI
	MOVQ  b_len+8(FP), CX
	MOVQ  acc+24(FP), AX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7
	SUBQ  $128, CX
	JLT   short

long:
	WORDS(0, Y8, Y0, Y4)
	WORDS(32, Y9, Y1, Y5)
	WORDS(64, Y10, Y2, Y6)
	WORDS(96, Y11, Y3, Y7)
	ADDQ $128, SI
	SUBQ $128, CX
	JGE  long

short:
	// CX is what is left, less 128.
	ADDQ $96, CX
	JLT  lanes

vector:
	WORDS(0, Y8, Y0, Y4)
	ADDQ $32, SI
	SUBQ $32, CX
	JGE  vector

lanes:
	VPADDQ       Y1, Y0, Y0
	VPADDQ       Y3, Y2, Y2
	VPADDQ       Y5, Y4, Y4
	VPADDQ       Y7, Y6, Y6
	VPADDQ       Y2, Y0, Y0
	VPADDQ       Y6, Y4, Y4
	VPSLLQ       $32, Y4, Y5
	VPSUBQ       Y5, Y0, Y0
	VPADDQ       Y4, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDQ       X1, X0, X0
	VPSRLDQ      $8, X0, X1
	VPADDQ       X1, X0, X0
	VMOVQ        X0, DX
	VZEROUPPER
	ADDQ         DX, AX
	ADCQ         $0, AX

	// CX is what is left, less 32.
	ADDQ $24, CX
	JLT  four

eight:
	ADDQ (SI), AX
	ADCQ $0, AX
	ADDQ $8, SI
	SUBQ $8, CX
	JGE  eight

four:
	// The lowest bits of CX are those of the length.
	TESTQ $4, CX
	JZ    two
	MOVL  (SI), DX
	ADDQ  DX, AX
	ADCQ  $0, AX
	ADDQ  $4, SI

two:
	TESTQ   $2, CX
	JZ      one
	MOVWLZX (SI), DX
	ADDQ    DX, AX
	ADCQ    $0, AX
	ADDQ    $2, SI

one:
	TESTQ   $1, CX
	JZ      done
	MOVBLZX (SI), DX
	ADDQ    DX, AX
	ADCQ    $0, AX

done:
	MOVQ AX, ret+32(FP)
	RET
