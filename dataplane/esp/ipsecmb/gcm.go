//go:build ipsecmb && cgo

package ipsecmb

/*
#cgo LDFLAGS: -lIPSec_MB
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <intel-ipsec-mb.h>

enum { icv_len = 16 };

// job has the layout of Job.
struct job {
	struct key *key;
	uint32_t offset, length;
	uint8_t nonce[12], aad[12];
	uint32_t aad_length, good;
};

struct key {
	struct gcm_key_data data;
	aes_gcm_enc_dec_t enc, dec;
};

static IMB_MGR *new_manager(void) {
	IMB_MGR *m = alloc_mb_mgr(0);
	if (m != NULL)
		init_mb_mgr_auto(m, NULL);
	return m;
}

static struct key *new_key(IMB_MGR *m, const uint8_t *octets, size_t length) {
	struct key *k;
	if (posix_memalign((void **)&k, 64, sizeof *k) != 0)
		return NULL;
	switch (length) {
	case 16: m->gcm128_pre(octets, &k->data); k->enc = m->gcm128_enc; k->dec = m->gcm128_dec; break;
	case 24: m->gcm192_pre(octets, &k->data); k->enc = m->gcm192_enc; k->dec = m->gcm192_dec; break;
	default: m->gcm256_pre(octets, &k->data); k->enc = m->gcm256_enc; k->dec = m->gcm256_dec; break;
	}
	return k;
}

static void free_key(IMB_MGR *m, struct key *k) {
	imb_clear_mem(k, sizeof *k);
	free(k);
}

static void seal(uint8_t *buffer, struct job *jobs, size_t n) {
	struct gcm_context_data context;
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];
		uint8_t *text = buffer + j->offset;
		j->key->enc(&j->key->data, &context, text, text, j->length, j->nonce, j->aad, j->aad_length, text + j->length, icv_len);
	}
}

static void open(uint8_t *buffer, struct job *jobs, size_t n) {
	struct gcm_context_data context;
	uint8_t icv[icv_len];
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];
		uint8_t *text = buffer + j->offset;
		uint8_t different = 0;
		j->key->dec(&j->key->data, &context, text, text, j->length, j->nonce, j->aad, j->aad_length, icv, icv_len);
		for (int k = 0; k < icv_len; k++) // in constant time
			different |= icv[k] ^ text[j->length + k];
		j->good = different == 0;
		if (different != 0) // nobody may see what wasn't authentic
			memset(text, 0, j->length);
	}
}
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// ICVLen is the length of an ICV in octets, which stands behind the text.
const ICVLen = C.icv_len

var (
	// ErrKeyLength: a key of neither 16, 24 nor 32 octets.
	ErrKeyLength = errors.New("ipsecmb: no such key length")
	// ErrBounds: a job that leads out of the buffer, or has no key.
	ErrBounds = errors.New("ipsecmb: job out of bounds")
	// ErrMemory: the library found none, or no processor that it knows.
	ErrMemory = errors.New("ipsecmb: no memory")
)

var manager = sync.OnceValue(func() *C.IMB_MGR { return C.new_manager() })

// Fast says whether this processor has what the library is fast with (AVX-512 with
// vector AES). It works on others too.
func Fast() bool {
	m := manager()
	return m != nil && m.used_arch == C.IMB_ARCH_AVX512
}

// Key of AES-GCM, expanded.
type Key struct{ c *C.struct_key }

// NewKey expands a key; it stays the caller's. Errors: ErrKeyLength, ErrMemory.
func NewKey(key []byte) (*Key, error) {
	if n := len(key); n != 16 && n != 24 && n != 32 {
		return nil, fmt.Errorf("%w: %d octets", ErrKeyLength, n)
	}
	m := manager()
	if m == nil {
		return nil, ErrMemory
	}
	c := C.new_key(m, (*C.uint8_t)(&key[0]), C.size_t(len(key)))
	if c == nil {
		return nil, ErrMemory
	}
	return &Key{c}, nil
}

// Erase the key and give its memory back. No job may have it any more.
func (k *Key) Erase() {
	if k.c != nil {
		C.free_key(manager(), k.c)
		k.c = nil
	}
}

// There says whether the key wasn't erased yet.
func (k *Key) There() bool { return k.c != nil }

// Job is one packet of a batch.
type Job struct {
	key uintptr // of C's memory: with pointers every call would look through all jobs
	// Offset of the text in the buffer, and its Length without the ICV, in octets.
	Offset, Length uint32
	// Nonce is salt and IV; of AAD the first AADLen octets count.
	Nonce, AAD [12]byte
	AADLen     uint32
	good       uint32
}

// Use a key, which has to live until the batch is done.
func (j *Job) Use(k *Key) { j.key = uintptr(unsafe.Pointer(k.c)) }

// Good says whether Open found the packet authentic.
func (j *Job) Good() bool { return j.good != 0 }

// Seal encrypts the text of each job in place and writes the ICV behind it.
// Errors: ErrBounds, with which nothing was done.
func Seal(buffer []byte, jobs []Job) error {
	if err := check(buffer, jobs); err != nil || len(jobs) == 0 {
		return err
	}
	C.seal((*C.uint8_t)(unsafe.SliceData(buffer)), (*C.struct_job)(unsafe.Pointer(unsafe.SliceData(jobs))), C.size_t(len(jobs)))
	runtime.KeepAlive(jobs)
	return nil
}

// Open authenticates and decrypts in place; see Job.Good. What isn't authentic is
// zero afterwards. Errors: ErrBounds, with which nothing was done.
func Open(buffer []byte, jobs []Job) error {
	if err := check(buffer, jobs); err != nil || len(jobs) == 0 {
		return err
	}
	C.open((*C.uint8_t)(unsafe.SliceData(buffer)), (*C.struct_job)(unsafe.Pointer(unsafe.SliceData(jobs))), C.size_t(len(jobs)))
	runtime.KeepAlive(jobs)
	return nil
}

func check(buffer []byte, jobs []Job) error {
	for i := range jobs {
		j := &jobs[i]
		if j.key == 0 || j.AADLen > uint32(len(j.AAD)) || uint64(j.Offset)+uint64(j.Length)+ICVLen > uint64(len(buffer)) {
			return fmt.Errorf("%w: number %d", ErrBounds, i)
		}
	}
	return nil
}

// Both sides lay a job out alike, or this doesn't compile.
var _ = [1]struct{}{}[unsafe.Sizeof(Job{})-unsafe.Sizeof(C.struct_job{})]
