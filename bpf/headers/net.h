// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// Headers of packets, in network byte order. Include bpf.h before it.
#pragma once

enum {
	ETH_P_IP = 0x0800,
	ETH_P_ARP = 0x0806,
	ETH_P_8021Q = 0x8100,
	ETH_P_IPV6 = 0x86dd,
	ETH_P_8021AD = 0x88a8,

	IPPROTO_HOPOPTS = 0,
	IPPROTO_ICMP = 1,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_DCCP = 33,
	IPPROTO_ROUTING = 43,
	IPPROTO_FRAGMENT = 44,
	IPPROTO_ESP = 50,
	IPPROTO_AH = 51,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_NONE = 59,
	IPPROTO_DSTOPTS = 60,
	IPPROTO_SCTP = 132,
	IPPROTO_MOBILITY = 135,
	IPPROTO_UDPLITE = 136,
	IPPROTO_HIP = 139,
	IPPROTO_SHIM6 = 140,

	IP_MF = 0x2000,
	IP_OFFSET = 0x1fff, // in units of 8 octets
	IP6_MF = 0x0001,
	IP6_OFFSET = 0xfff8, // in octets
};

struct eth_header {
	u8 destination[6];
	u8 source[6];
	be16 protocol;
};

struct vlan_tag {
	be16 tci;
	be16 protocol; // of what follows
};

struct ipv4_header {
	u8 version_ihl; // IHL in units of 4 octets
	u8 tos;
	be16 total_length;
	be16 id;
	be16 fragment; // flags and offset: IP_MF, IP_OFFSET
	u8 ttl;
	u8 protocol;
	be16 checksum;
	be32 source;
	be32 destination;
};

struct ipv6_header {
	be32 version_class_flow;
	be16 payload_length; // without this header
	u8 next_header;
	u8 hop_limit;
	be32 source[4];
	be32 destination[4];
};

// Hop-by-hop options, routing header, destination options.
struct ipv6_extension {
	u8 next_header;
	u8 length; // in units of 8 octets, without the first 8
	u8 data[6];
};

struct ipv6_fragment {
	u8 next_header;
	u8 reserved;
	be16 offset; // IP6_OFFSET, IP6_MF
	be32 id;
};

struct udp_header {
	be16 source;
	be16 destination;
	be16 length; // with this header
	be16 checksum;
};

struct tcp_header {
	be16 source;
	be16 destination;
	be32 sequence;
	be32 acknowledgement;
	u8 offset; // of the data in units of 4 octets, upper half
	u8 flags;
	be16 window;
	be16 checksum;
	be16 urgent;
};

struct icmp_header {
	u8 type;
	u8 code;
	be16 checksum;
	be16 id;
	be16 sequence;
};
