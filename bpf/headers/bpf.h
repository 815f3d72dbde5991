// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// What BPF programs of this tree take from the kernel: types, contexts, map
// definitions, helpers. Written by hand, so that the objects depend on clang
// and on nothing that is installed beside it. Numbers and layouts are those of
// include/uapi/linux/bpf.h, which never change; a context lists its fields as
// far as somebody here reads them.
//
// Include it first. Compiled for bpfel; objects are loaded on little-endian
// machines only.
#pragma once

typedef signed char s8;
typedef unsigned char u8;
typedef signed short s16;
typedef unsigned short u16;
typedef signed int s32;
typedef unsigned int u32;
typedef signed long long s64;
typedef unsigned long long u64;
typedef _Bool bool;
#define true 1
#define false 0

// Big-endian, as on the wire: compare them with BE16() and BE32().
typedef u16 be16;
typedef u32 be32;
typedef u64 be64;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "compile with -target bpfel");
#define BE16(x) ((be16)__builtin_bswap16(x))
#define BE32(x) ((be32)__builtin_bswap32(x))
#define BE64(x) ((be64)__builtin_bswap64(x))

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
// A global function: the verifier looks at it once by itself, knows nothing of
// its arguments but their types (a pointer may be 0), and nothing of what it
// wrote afterwards. Keeps big programs from being walked again for every path.
#define VERIFIED_ALONE __attribute__((noinline))
#define PACKED __attribute__((packed))
#define ALIGNED(n) __attribute__((aligned(n)))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define OFFSETOF(type, field) __builtin_offsetof(type, field)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define COPY(to, from, n) __builtin_memcpy(to, from, n)
#define ZERO(at, n) __builtin_memset(at, 0, n)
// Keeps the compiler from proving a bound away that the verifier needs to see.
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))
// Reads or writes memory once, where another CPU changes it.
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define FETCH_ADD(p, v) __sync_fetch_and_add(p, v)

// A map definition for BTF: a struct of these fields in SEC(".maps").
//
//	struct {
//		MAP_UINT(type, BPF_MAP_TYPE_HASH);
//		MAP_TYPE(key, u32);
//		MAP_TYPE(value, struct entry);
//		MAP_UINT(max_entries, 1024);
//	} entries SEC(".maps");
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, type) typeof(type) *name

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_SOCKMAP = 15,
	BPF_MAP_TYPE_REUSEPORT_SOCKARRAY = 20,
	BPF_MAP_TYPE_RINGBUF = 27,
};

// Flags of maps.
enum {
	BPF_F_NO_PREALLOC = 1 << 0,
	BPF_F_NO_COMMON_LRU = 1 << 1,
	BPF_F_RDONLY_PROG = 1 << 7,
};

// Flags of an update.
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
	BPF_F_LOCK = 4,
};

enum xdp_action {
	XDP_ABORTED = 0,
	XDP_DROP = 1,
	XDP_PASS = 2,
	XDP_TX = 3,
	XDP_REDIRECT = 4,
};

enum tc_action {
	TCX_NEXT = -1, // tcx: what comes next; clsact: TC_ACT_UNSPEC
	TC_ACT_OK = 0,
	TC_ACT_SHOT = 2,
};

enum sk_action {
	SK_DROP = 0,
	SK_PASS = 1,
};

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	be32 protocol; // an Ethernet type in the low half
	u32 vlan_present;
	be32 vlan_tci;
	be32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys ALIGNED(8);
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	u64 sk ALIGNED(8);
	u32 gso_size;
	u8 tstamp_type;
	u8 padding[3];
	u64 hwtstamp;
};

struct bpf_xfrm_state {
	u32 reqid;
	be32 spi;
	u16 family;
	u16 ext;
	union {
		be32 remote_ipv4;
		be32 remote_ipv6[4];
	};
};

struct sk_reuseport_md {
	void *data ALIGNED(8); // begins at the transport header
	void *data_end ALIGNED(8);
	u32 len;
	be32 eth_protocol;
	u32 ip_protocol;
	u32 bind_inany;
	u32 hash;
	u64 sk ALIGNED(8);
	u64 migrating_sk ALIGNED(8);
};

struct bpf_lpm_trie_key {
	u32 prefixlen;
	u8 data[0];
};

struct bpf_spin_lock {
	u32 val;
};

// Helpers, by their number in enum bpf_func_id.
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_skb_load_bytes)(const void *ctx, u32 offset, void *to, u32 len) = (void *)26;
static long (*const bpf_csum_diff)(const be32 *from, u32 from_size, const be32 *to, u32 to_size, u32 seed) = (void *)28;
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, u32 len) = (void *)39;
static long (*const bpf_xdp_adjust_head)(struct xdp_md *xdp, int delta) = (void *)44;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *xdp, int delta) = (void *)65;
static long (*const bpf_skb_get_xfrm_state)(struct __sk_buff *skb, u32 index, struct bpf_xfrm_state *state, u32 size, u64 flags) = (void *)66;
static long (*const bpf_skb_load_bytes_relative)(const void *ctx, u32 offset, void *to, u32 len, u32 start_header) = (void *)68;
static long (*const bpf_sk_select_reuseport)(struct sk_reuseport_md *reuse, void *map, const void *key, u64 flags) = (void *)82;
static long (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*const bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;
static long (*const bpf_loop)(u32 times, void *callback, void *context, u64 flags) = (void *)181;
static long (*const bpf_xdp_load_bytes)(struct xdp_md *xdp, u32 offset, void *to, u32 len) = (void *)189;
static u64 (*const bpf_ktime_get_coarse_ns)(void) = (void *)160;
