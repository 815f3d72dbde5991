// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// From the frame to the transport header. Whatever can't be read is VERDICT_OTHER
// later on: the kernel judges it, not the guard.
#pragma once

enum {
	VLAN_DEPTH = 2,
	EXTENSIONS = 6,
	MAX_OFFSET = 0x3fff, // of anything that is read
};

struct packet {
	struct address remote, local;
	u32 network;   // offset of the IP header
	u32 transport; // offset of what follows IP and its extensions
	u32 end;       // offset behind the IP packet
	u32 plain;     // 1: no IPv4 option, no IPv6 extension
	u32 more;      // 1: a first fragment
	u32 later;     // 1: another fragment, which has no transport header
	u32 ipv4;
	u8 protocol;
	u8 unused[3];
	be16 remote_port, local_port; // of UDP and TCP
	// What was found in it, for the reports.
	be32 spi;
	u32 encapsulated;
};

// at returns length octets at an offset of the frame, 0 if they aren't there.
INLINE void *at(struct xdp_md *ctx, u32 offset, u32 length)
{
	void *data = (void *)(u64)ctx->data;
	void *end = (void *)(u64)ctx->data_end;

	OPAQUE(offset);
	if (offset > MAX_OFFSET)
		return 0;
	if (data + offset + length > end)
		return 0;
	return data + offset;
}

INLINE u32 frame_length(struct xdp_md *ctx)
{
	u64 length = (void *)(u64)ctx->data_end - (void *)(u64)ctx->data;

	OPAQUE(length); // or clang sums up halves of pointers
	return length;
}

INLINE bool parse_ipv4(struct xdp_md *ctx, struct packet *p)
{
	struct ipv4_header *ip = at(ctx, p->network, sizeof(*ip));
	u32 length, total, fragment;

	if (!ip || ip->version_ihl >> 4 != 4)
		return false;
	length = (ip->version_ihl & 15) * 4;
	total = BE16(ip->total_length);
	if (length < sizeof(*ip) || total < length)
		return false;
	p->ipv4 = 1;
	p->plain = length == sizeof(*ip);
	p->transport = p->network + length;
	p->end = p->network + total;
	p->protocol = ip->protocol;
	p->remote.word[2] = p->local.word[2] = BE32(0xffff);
	p->remote.word[3] = ip->source;
	p->local.word[3] = ip->destination;
	fragment = BE16(ip->fragment);
	p->later = (fragment & IP_OFFSET) != 0;
	p->more = !p->later && fragment & IP_MF;
	return true;
}

INLINE bool parse_ipv6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6_header *ip = at(ctx, p->network, sizeof(*ip));
	struct ipv6_fragment *f;
	struct ipv6_extension *e;
	u32 offset = p->network + sizeof(*ip);
	u8 next;

	if (!ip || (ip->version_class_flow & 0xf0) != 0x60)
		return false;
	COPY(&p->remote, ip->source, sizeof(p->remote));
	COPY(&p->local, ip->destination, sizeof(p->local));
	p->end = offset + BE16(ip->payload_length);
	p->plain = 1;
	next = ip->next_header;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < EXTENSIONS && !p->later; i++) {
		if (next == IPPROTO_FRAGMENT) {
			f = at(ctx, offset, sizeof(*f));
			if (!f)
				return false;
			p->later = (BE16(f->offset) & IP6_OFFSET) != 0;
			p->more = !p->later && BE16(f->offset) & IP6_MF;
			next = f->next_header;
			offset += sizeof(*f);
		} else if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) {
			e = at(ctx, offset, 2);
			if (!e)
				return false;
			next = e->next_header;
			offset += (e->length + 1) * 8;
		} else {
			break;
		}
		p->plain = 0;
	}
	p->protocol = next;
	p->transport = offset;
	return true;
}

// parse says whether it is an IP packet. Octets behind it, Ethernet's padding,
// don't count; a packet that isn't whole is none.
VERIFIED_ALONE u32 parse(struct xdp_md *ctx, struct packet *p)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	struct vlan_tag *tag;
	u32 offset = sizeof(*eth);
	be16 protocol;
	bool ip;

	if (!eth || !p)
		return false;
	protocol = eth->protocol;
	for (u32 i = 0; i < VLAN_DEPTH; i++) {
		if (protocol != BE16(ETH_P_8021Q) && protocol != BE16(ETH_P_8021AD))
			break;
		tag = at(ctx, offset, sizeof(*tag));
		if (!tag)
			return false;
		protocol = tag->protocol;
		offset += sizeof(*tag);
	}
	p->network = offset;
	if (protocol == BE16(ETH_P_IP))
		ip = parse_ipv4(ctx, p);
	else if (protocol == BE16(ETH_P_IPV6))
		ip = parse_ipv6(ctx, p);
	else
		ip = false;
	return ip && p->transport <= p->end && p->end <= frame_length(ctx);
}
