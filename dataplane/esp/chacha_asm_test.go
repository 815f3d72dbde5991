//go:build amd64 && gc && !purego

package esp

const chachaAllocates = 0
