//go:build amd64 && !purego

package checksum

import "golang.org/x/sys/cpu"

// vectorsLeast: below, the call costs more than it saves.
const vectorsLeast = 64

var vectors = cpu.X86.HasAVX2

// sumVectors is Sum where vectors is true.
//
//go:noescape
func sumVectors(b []byte, acc uint64) uint64
