// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// Shield mode: what passes of that which isn't the gateway's. What isn't IP
// comes from the same link and always passes (ARP, LLDP, LACP).
#pragma once

// is_essential: without these an interface loses its addresses, its neighbours
// or its path MTU.
INLINE bool is_essential(struct xdp_md *ctx, struct packet *p)
{
	u8 *type;

	if (p->later)
		return false;
	if (p->protocol == IPPROTO_UDP)
		return p->ipv4 ? p->remote_port == BE16(67) && p->local_port == BE16(68)
			       : p->remote_port == BE16(547) && p->local_port == BE16(546);
	type = at(ctx, p->transport, 1);
	if (!type)
		return false;
	if (p->ipv4)
		// echo reply, unreachable, echo, time exceeded, parameter problem
		return p->protocol == IPPROTO_ICMP &&
		       (*type == 0 || *type == 3 || *type == 8 || *type == 11 || *type == 12);
	// Errors, echo, multicast listeners and neighbour discovery; RFC 4890 section 4.4.1.
	return p->protocol == IPPROTO_ICMPV6 &&
	       ((*type >= 1 && *type <= 4) || (*type >= 128 && *type <= 136) || *type == 143);
}

VERIFIED_ALONE u32 is_allowed(struct packet *p, u32 count)
{
#pragma clang loop unroll(disable)
	for (u32 i = 0; p && i < ALLOW_MAX && i < count; i++) {
		u32 index = i;
		struct allow *a = bpf_map_lookup_elem(&allowed, &index);
		u32 differ = 0;

		if (!a)
			return false;
		for (u32 w = 0; w < 4; w++)
			differ |= (p->remote.word[w] ^ a->prefix.word[w]) & a->mask.word[w];
		if (differ || (a->protocol && a->protocol != p->protocol))
			continue;
		// Later fragments have no ports: they pass where none is named.
		if ((!a->port || a->port == p->local_port) && (!a->remote_port || a->remote_port == p->remote_port))
			return true;
	}
	return false;
}
