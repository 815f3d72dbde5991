// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// Access lists on the interface to the devices. Each packet, either way, goes
// through the same stages:
//
//	parse    headers up to the ports, bounded
//	device   by its virtual address; from the device, by the Child SA too
//	list     of the device's group: one look-up, then rules from the first on
//	police   the device's rate, then its group's
//	count    by device, and by verdict and CPU
//
// What a list means says package acl. User space replaces whole lists: a packet
// reads the slot of a list once, so it sees the old or the new one.

//go:build ignore

#include "bpf.h"
#include "net.h"

char program_license[] SEC("license") = "GPL";

// Set before loading.
// Octets before the IP header: none on TUN interfaces.
const volatile u32 link_header = 0;
// Packets from devices come out of IPsec of this kernel, and their inbound SPI
// says from which device: sources are compared with it.
const volatile bool bind_sa = false;

enum direction { IN = 0, OUT = 1 };

// As in package acl.
enum verdict {
	PASS,
	MALFORMED,
	UNKNOWN,
	WRONG_SA,
	DENIED,
	FRAGMENT,
	DEVICE_RATE,
	GROUP_RATE,
	VERDICTS,
};

#define MAX_GROUPS 1024
#define MAX_RULES 64
#define MAX_EXTENSIONS 8
#define MAX_HEADERS 256 // that are made linear
#define BPF_HDR_START_NET 1
// Costs are nanoseconds for an octet in units of 2^-20.
#define COST_SHIFT 20

// An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d.
struct address {
	u8 octets[16];
};

struct device {
	u32 group; // slot
};

struct usage {
	u64 packets[2];
	u64 bytes[2];
	u64 dropped[2]; // packets
	u64 last[2];    // of CLOCK_MONOTONIC, when a packet passed
	u64 full[2];    // until when what has passed takes at the device's rate
};

struct group {
	u32 open; // everything is allowed, there is no list
	u32 unused;
	u64 device_cost; // 0: not limited
	u64 device_burst; // in nanoseconds
	u64 total_cost;
	u64 total_burst;
};

struct group_usage {
	u64 full[2];
};

struct remote {
	u32 prefixlen; // with the octet of the family
	u8 family;     // 4 or 6
	u8 octets[16];
	u8 unused[3];
};

struct rule {
	u8 protocol; // 0: any
	u8 allow;
	u16 first, last;
	u16 unused;
};

struct rules {
	u32 count;
	u32 unused;
	struct rule rules[MAX_RULES];
};

struct count {
	u64 packets;
	u64 bytes;
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, struct address);
	MAP_TYPE(value, u32); // slot of the device
	MAP_UINT(max_entries, 2);
} addresses SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, be32);  // inbound SPI
	MAP_TYPE(value, u32); // slot of the device
	MAP_UINT(max_entries, 2);
} sas SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct device);
	MAP_UINT(max_entries, 1);
} devices SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct usage);
	MAP_UINT(max_entries, 1);
} usages SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct group);
	MAP_UINT(max_entries, MAX_GROUPS);
} groups SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct group_usage);
	MAP_UINT(max_entries, MAX_GROUPS);
} group_usages SEC(".maps");

struct list {
	MAP_UINT(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
	MAP_UINT(key_size, 21);
	MAP_UINT(value_size, sizeof(struct rules));
	MAP_UINT(max_entries, 1);
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	MAP_TYPE(key, u32); // slot of the group
	MAP_UINT(max_entries, MAX_GROUPS);
	struct list *values[];
} lists SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, u32); // direction * VERDICTS + verdict
	MAP_TYPE(value, struct count);
	MAP_UINT(max_entries, 2 * VERDICTS);
} counts SEC(".maps");

struct packet {
	struct address virtual; // the device's
	struct remote remote;
	u16 port; // remote
	u8 protocol;
	bool ports;
	u32 packets;
	u32 bytes;
};

// Octets of a packet, from its IP header on. What the kernel has decrypted may
// still have the link header of the outside, of which the program isn't told how
// long it is; loads from the network header see only what is linear.
INLINE long load(struct __sk_buff *skb, u32 at, void *to, u32 size)
{
	if (!bind_sa)
		return bpf_skb_load_bytes(skb, link_header + at, to, size);
	if (!bpf_skb_load_bytes_relative(skb, at, to, size, BPF_HDR_START_NET))
		return 0;
	if (bpf_skb_pull_data(skb, skb->len < MAX_HEADERS ? skb->len : MAX_HEADERS))
		return -1;
	return bpf_skb_load_bytes_relative(skb, at, to, size, BPF_HDR_START_NET);
}

INLINE bool has_ports(u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_UDPLITE || protocol == IPPROTO_DCCP;
}

// Ports of a packet that is no later fragment; at: of the transport header.
INLINE void read_ports(struct __sk_buff *skb, struct packet *p, u32 at, enum direction direction)
{
	be16 ports[2]; // source, destination

	if (!has_ports(p->protocol) || load(skb, at, ports, sizeof(ports)))
		return;
	p->port = BE16(direction == IN ? ports[1] : ports[0]);
	p->ports = true;
}

// A super-packet counts by its segments, each with a copy of the headers.
// gso_segs can't be asked: frames from TUN have none.
INLINE void count_segments(struct __sk_buff *skb, struct packet *p, u32 at)
{
	u32 headers = at, size = skb->gso_size;
	u8 offset;

	if (!size)
		return;
	if (p->protocol == IPPROTO_TCP) {
		if (load(skb, at + OFFSETOF(struct tcp_header, offset), &offset, 1))
			return;
		headers += (offset >> 4) * 4;
	} else {
		headers += sizeof(struct udp_header);
	}
	if (headers >= p->bytes)
		return;
	p->packets = (p->bytes - headers + size - 1) / size;
	p->bytes += (p->packets - 1) * headers;
}

INLINE bool parse_ipv4(struct __sk_buff *skb, struct packet *p, enum direction direction)
{
	struct ipv4_header ip;
	u32 length;
	be32 remote, virtual;

	if (load(skb, 0, &ip, sizeof(ip)))
		return false;
	length = (ip.version_ihl & 0xf) * 4;
	if (bind_sa && ip.total_length)
		p->bytes = BE16(ip.total_length);
	if (ip.version_ihl >> 4 != 4 || length < sizeof(ip) || length > p->bytes)
		return false;
	remote = direction == IN ? ip.destination : ip.source;
	virtual = direction == IN ? ip.source : ip.destination;
	p->remote.prefixlen = 8 + 32;
	p->remote.family = 4;
	COPY(p->remote.octets, &remote, 4);
	p->virtual.octets[10] = p->virtual.octets[11] = 0xff;
	COPY(&p->virtual.octets[12], &virtual, 4);
	p->protocol = ip.protocol;
	if (BE16(ip.fragment) & IP_OFFSET)
		return true;
	read_ports(skb, p, length, direction);
	count_segments(skb, p, length);
	return true;
}

INLINE bool parse_ipv6(struct __sk_buff *skb, struct packet *p, enum direction direction)
{
	struct ipv6_header ip;
	struct ipv6_extension extension; // a fragment header is of the same size
	u32 at = sizeof(ip);

	if (load(skb, 0, &ip, sizeof(ip)))
		return false;
	if ((ip.version_class_flow & 0xf0) != 0x60)
		return false;
	if (bind_sa && ip.payload_length)
		p->bytes = sizeof(ip) + BE16(ip.payload_length);
	p->remote.prefixlen = 8 + 128;
	p->remote.family = 6;
	COPY(p->remote.octets, direction == IN ? ip.destination : ip.source, 16);
	COPY(p->virtual.octets, direction == IN ? ip.source : ip.destination, 16);
	p->protocol = ip.next_header;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		switch (p->protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			if (load(skb, at, &extension, sizeof(extension)))
				return false;
			at += 8 + extension.length * 8;
			break;
		case IPPROTO_AH:
			if (load(skb, at, &extension, sizeof(extension)))
				return false;
			at += 8 + extension.length * 4;
			break;
		case IPPROTO_FRAGMENT:
			if (load(skb, at, &extension, sizeof(extension)))
				return false;
			at += sizeof(struct ipv6_fragment);
			if (extension.data[0] || extension.data[1] & 0xf8) {
				p->protocol = extension.next_header;
				return true;
			}
			break;
		default:
			read_ports(skb, p, at, direction);
			count_segments(skb, p, at);
			return true;
		}
		p->protocol = extension.next_header;
	}
	return false;
}

INLINE bool parse(struct __sk_buff *skb, struct packet *p, enum direction direction)
{
	if (skb->len <= link_header)
		return false;
	p->packets = 1;
	p->bytes = skb->len - link_header;
	if (skb->protocol == BE16(ETH_P_IP))
		return parse_ipv4(skb, p, direction);
	if (skb->protocol == BE16(ETH_P_IPV6))
		return parse_ipv6(skb, p, direction);
	return false;
}

// The Child SA that the packet came through is the device's.
INLINE bool bound(struct __sk_buff *skb, u32 device)
{
	struct bpf_xfrm_state state = {};
	u32 *owner;

	if (bpf_skb_get_xfrm_state(skb, 0, &state, sizeof(state), 0))
		return false;
	owner = bpf_map_lookup_elem(&sas, &state.spi);
	return owner && *owner == device;
}

INLINE enum verdict decide(const struct packet *p, u32 group)
{
	void *list = bpf_map_lookup_elem(&lists, &group);
	struct rules *rules;

	if (!list)
		return DENIED;
	rules = bpf_map_lookup_elem(list, &p->remote);
	if (!rules)
		return DENIED;
	for (u32 i = 0; i < MAX_RULES; i++) {
		struct rule *r = &rules->rules[i];

		if (i >= rules->count)
			break;
		if (r->protocol && r->protocol != p->protocol)
			continue;
		if (r->first != 0 || r->last != 65535) {
			if (!p->ports)
				return FRAGMENT;
			if (p->port < r->first || p->port > r->last)
				continue;
		}
		return r->allow ? PASS : DENIED;
	}
	return DENIED;
}

// A bucket that runs full: *full is when what has passed will have flowed off.
// When others keep changing it at the same time, the packet passes uncounted.
INLINE bool conforms(u64 *full, u64 now, u64 cost, u64 burst)
{
	for (int i = 0; i < 4; i++) {
		u64 before = READ_ONCE(*full);
		u64 from = before > now ? before : now;

		if (from - now + cost > burst)
			return false;
		if (__sync_val_compare_and_swap(full, before, from + cost) == before)
			return true;
	}
	return true;
}

INLINE enum verdict police(const struct packet *p, struct usage *usage, struct group *group, u32 slot, enum direction direction)
{
	struct group_usage *all;
	u64 now;

	if (!group->device_cost && !group->total_cost)
		return PASS;
	now = bpf_ktime_get_ns();
	if (group->device_cost &&
	    !conforms(&usage->full[direction], now, p->bytes * group->device_cost >> COST_SHIFT, group->device_burst))
		return DEVICE_RATE;
	if (!group->total_cost)
		return PASS;
	all = bpf_map_lookup_elem(&group_usages, &slot);
	if (!all || conforms(&all->full[direction], now, p->bytes * group->total_cost >> COST_SHIFT, group->total_burst))
		return PASS;
	return GROUP_RATE;
}

INLINE enum verdict judge(struct __sk_buff *skb, struct packet *p, enum direction direction)
{
	struct device *device;
	struct usage *usage;
	struct group *group;
	enum verdict verdict;
	u32 *owner, number, slot;

	if (!parse(skb, p, direction))
		return MALFORMED;
	owner = bpf_map_lookup_elem(&addresses, &p->virtual);
	if (!owner)
		return UNKNOWN;
	number = READ_ONCE(*owner);
	device = bpf_map_lookup_elem(&devices, &number);
	usage = bpf_map_lookup_elem(&usages, &number);
	if (!device || !usage)
		return UNKNOWN;
	slot = READ_ONCE(device->group);
	group = bpf_map_lookup_elem(&groups, &slot);
	if (!group)
		return DENIED;
	if (bind_sa && direction == IN && !bound(skb, number))
		verdict = WRONG_SA;
	else
		verdict = READ_ONCE(group->open) ? PASS : decide(p, slot);
	if (verdict == PASS)
		verdict = police(p, usage, group, slot, direction);
	if (verdict != PASS) {
		FETCH_ADD(&usage->dropped[direction], p->packets);
		return verdict;
	}
	FETCH_ADD(&usage->packets[direction], p->packets);
	FETCH_ADD(&usage->bytes[direction], p->bytes);
	WRITE_ONCE(usage->last[direction], bpf_ktime_get_coarse_ns());
	return PASS;
}

INLINE int access(struct __sk_buff *skb, enum direction direction)
{
	struct packet p = {};
	enum verdict verdict = judge(skb, &p, direction);
	u32 key = direction * VERDICTS + verdict;
	struct count *count = bpf_map_lookup_elem(&counts, &key);

	if (count) {
		count->packets += p.packets ? p.packets : 1;
		count->bytes += p.bytes;
	}
	return verdict == PASS ? TCX_NEXT : TC_ACT_SHOT;
}

SEC("tc")
int access_in(struct __sk_buff *skb)
{
	return access(skb, IN);
}

SEC("tc")
int access_out(struct __sk_buff *skb)
{
	return access(skb, OUT);
}
