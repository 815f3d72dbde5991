//go:build ignore

// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// Two programs that bring packets to the loop that owns their SA: of a group of
// UDP sockets the one by the SPI, of the queues of a TUN device the one by the
// virtual address. What they don't know is spread as the kernel would.
#include "bpf.h"
#include "net.h"

// Where in an SPI the loop stands; set by the loader.
volatile const u32 loop_shift;
volatile const u32 loop_mask;

// sockets of one local address, by loop.
struct {
	MAP_UINT(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
	MAP_UINT(max_entries, 32);
} sockets SEC(".maps");

struct address {
	be32 words[4]; // IPv4 as ::ffff:a.b.c.d
};

// owners: the loop of each virtual address.
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct address);
	MAP_TYPE(value, u32);
	MAP_UINT(max_entries, 1024); // set by the loader
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
} owners SEC(".maps");

// The data begins at the UDP header. IKE, which has four zero octets here (RFC
// 3948 section 2.2), goes to loop 0, as SPIs of that loop do.
SEC("sk_reuseport")
int socket_of(struct sk_reuseport_md *md)
{
	be32 spi;
	u32 loop;

	if (bpf_skb_load_bytes(md, sizeof(struct udp_header), &spi, sizeof(spi)))
		return SK_PASS;
	loop = BE32(spi) >> loop_shift & loop_mask;
	// Without such a socket none is selected, and the kernel does it.
	bpf_sk_select_reuseport(md, &sockets, &loop, 0);
	return SK_PASS;
}

// The data begins at the IP header. The kernel takes the rest of the result by
// the number of queues.
SEC("socket")
int queue_of(struct __sk_buff *skb)
{
	struct address to = {};
	u32 *loop;
	u8 first;

	if (bpf_skb_load_bytes(skb, 0, &first, sizeof(first)))
		return 0;
	if (first >> 4 == 4) {
		to.words[2] = BE32(0xffff);
		if (bpf_skb_load_bytes(skb, OFFSETOF(struct ipv4_header, destination), &to.words[3], 4))
			return 0;
	} else if (bpf_skb_load_bytes(skb, OFFSETOF(struct ipv6_header, destination), &to, sizeof(to))) {
		return 0;
	}
	loop = bpf_map_lookup_elem(&owners, &to);
	return loop ? *loop : skb->hash & 0x7fffffff;
}

char _license[] SEC("license") = "GPL";
