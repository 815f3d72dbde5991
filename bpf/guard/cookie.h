// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// COOKIE (RFC 7296 section 2.6) as control/gate makes it: what is read here of a
// first message, and what is answered, are the same octets.
#pragma once

enum {
	IKE_HEADER = 28,
	IKE_MAX_INIT = 4096,
	IKE_MAX_PAYLOADS = 48,

	IKE_SA_INIT = 34,
	IKE_SESSION_RESUME = 38, // RFC 5723
	IKE_INITIATOR = 0x08,
	IKE_RESPONSE = 0x20,

	PAYLOAD_SA = 33,
	PAYLOAD_KE = 34,
	PAYLOAD_NONCE = 40,
	PAYLOAD_NOTIFY = 41,
	PAYLOAD_VENDOR = 43,

	NOTIFY_COOKIE = 16390,
	COOKIE_LEN = 9,
};

struct ike_header {
	u64 initiator_spi; // as it lies there
	u64 responder_spi;
	u8 next;
	u8 version;
	u8 exchange;
	u8 flags;
	be32 message_id;
	be32 length;
} PACKED ALIGNED(4);

struct payload_header {
	u8 next;
	u8 critical;
	be16 length; // with this header
};

struct notify_header {
	struct payload_header payload;
	u8 protocol;
	u8 spi_size;
	be16 type;
};

struct cookie_answer {
	struct ike_header ike;
	struct notify_header notify;
	u8 version;
	u8 hash[8];
	u8 unused[3]; // not sent: whole words for the checksum
} PACKED ALIGNED(4);
enum { ANSWER_LEN = OFFSETOF(struct cookie_answer, unused) };

// A first message of an IKE SA in the packet.
struct message {
	u32 offset, length; // of the IKE header; octets
	u32 nonce, nonce_length;
	u32 cookie; // offset, 0 without one of the right length
};

// is_first_message says whether the header could begin an IKE SA: gate's checks.
INLINE bool is_first_message(const struct ike_header *h, u32 length)
{
	if (BE32(h->length) != length || length > IKE_MAX_INIT)
		return false;
	if ((h->flags & (IKE_INITIATOR | IKE_RESPONSE)) != IKE_INITIATOR)
		return false;
	if (!h->initiator_spi || h->responder_spi || h->message_id)
		return false;
	return h->next == PAYLOAD_SA || h->next == PAYLOAD_KE || h->next == PAYLOAD_NONCE ||
	       h->next == PAYLOAD_NOTIFY || h->next == PAYLOAD_VENDOR;
}

// find_cookie in the first payload, which is a notify.
INLINE u32 find_cookie(struct xdp_md *ctx, u32 offset, u32 length)
{
	struct notify_header *n = at(ctx, offset, sizeof(*n));

	if (!n || length < sizeof(*n) || n->type != BE16(NOTIFY_COOKIE))
		return 0;
	if (length != sizeof(*n) + n->spi_size + COOKIE_LEN)
		return 0;
	return offset + sizeof(*n) + n->spi_size;
}

// scan walks the payloads of a first message and finds nonce and cookie. False:
// it is none, or broken.
VERIFIED_ALONE u32 scan(struct xdp_md *ctx, struct message *m)
{
	u32 nonce = 0, nonce_length = 0, cookie = 0, offset, end;
	struct ike_header *h;
	u8 next;

	if (!m)
		return false;
	offset = m->offset + IKE_HEADER;
	end = m->offset + m->length;
	h = at(ctx, m->offset, sizeof(*h));
	if (!h || !is_first_message(h, m->length))
		return false;
	next = h->next;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < IKE_MAX_PAYLOADS && next; i++) {
		struct payload_header *p = at(ctx, offset, sizeof(*p));
		u32 length;

		if (!p)
			return false;
		length = BE16(p->length);
		if (length < sizeof(*p) || offset + length > end)
			return false;
		if (next == PAYLOAD_NONCE) {
			if (nonce || length < sizeof(*p) + 16 || length > sizeof(*p) + 256)
				return false;
			nonce = offset + sizeof(*p);
			nonce_length = length - sizeof(*p);
		} else if (next == PAYLOAD_NOTIFY && i == 0) {
			cookie = find_cookie(ctx, offset, length);
		}
		next = p->next;
		offset += length;
	}
	m->nonce = nonce;
	m->nonce_length = nonce_length;
	m->cookie = cookie;
	return !next && offset == end && nonce;
}

struct siphash {
	u64 v0, v1, v2, v3;
};

#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))

INLINE void sip_round(struct siphash *h)
{
	h->v0 += h->v1;
	h->v1 = ROTATE(h->v1, 13) ^ h->v0;
	h->v0 = ROTATE(h->v0, 32);
	h->v2 += h->v3;
	h->v3 = ROTATE(h->v3, 16) ^ h->v2;
	h->v0 += h->v3;
	h->v3 = ROTATE(h->v3, 21) ^ h->v0;
	h->v2 += h->v1;
	h->v1 = ROTATE(h->v1, 17) ^ h->v2;
	h->v2 = ROTATE(h->v2, 32);
}

INLINE void sip_word(struct siphash *h, u64 m)
{
	h->v3 ^= m;
	sip_round(h);
	sip_round(h);
	h->v0 ^= m;
}

// cookie_hash is the hash of a cookie in control/gate: SipHash-2-4 of
//
//	SPIi [8] | address [16], IPv4 mapped | port [2] | version [1] | zero [1] |
//	length of the nonce [2] | zero [2] | nonce
//
// in the byte order in which the octets of a cookie are compared, big-endian.
// Zero if the message isn't where scan found it.
VERIFIED_ALONE u64 cookie_hash(struct xdp_md *ctx, struct packet *p, struct message *m, struct cookie_key *key)
{
	struct siphash h;
	struct ike_header *ike;
	u32 length, offset, left;
	u64 last;

	if (!p || !m || !key)
		return 0;
	length = m->nonce_length;
	offset = m->nonce;
	left = length & 7;
	last = (u64)(32 + length) << 56;
	ike = at(ctx, m->offset, sizeof(*ike));
	if (!ike || length > 256)
		return 0;
	h.v0 = key->key[0] ^ 0x736f6d6570736575;
	h.v1 = key->key[1] ^ 0x646f72616e646f6d;
	h.v2 = key->key[0] ^ 0x6c7967656e657261;
	h.v3 = key->key[1] ^ 0x7465646279746573;
	sip_word(&h, ike->initiator_spi);
	sip_word(&h, (u64)p->remote.word[1] << 32 | p->remote.word[0]);
	sip_word(&h, (u64)p->remote.word[3] << 32 | p->remote.word[2]);
	sip_word(&h, (u64)BE16(length) << 32 | (key->period & 0xff) << 16 | p->remote_port);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 256 / 8 && i < length / 8; i++) {
		u64 *word = at(ctx, offset, 8);

		if (!word)
			return 0;
		sip_word(&h, *word);
		offset += 8;
	}
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 7 && i < left; i++) {
		u8 *octet = at(ctx, offset, 1);

		if (!octet)
			return 0;
		last |= (u64)*octet << 8 * i;
		offset++;
	}
	sip_word(&h, last);
	h.v2 ^= 0xff;
	for (u32 i = 0; i < 4; i++)
		sip_round(&h);
	return BE64(h.v0 ^ h.v1 ^ h.v2 ^ h.v3);
}

// key_of a period, 0 if there is none.
INLINE struct cookie_key *key_of(u64 period)
{
	u32 slot = period % COOKIE_SLOTS;
	struct cookie_key *key = bpf_map_lookup_elem(&cookie_keys, &slot);

	return key && key->period == period ? key : 0;
}

// is_valid compares the cookie of a message with the one it should be. Periods
// are those of the gateway's clock, which is ahead of ours by a moment when it
// turns: the next one counts, too.
INLINE bool is_valid(struct xdp_md *ctx, const struct settings *s, struct packet *p, struct message *m)
{
	u8 *cookie = at(ctx, m->cookie, COOKIE_LEN);
	struct cookie_key *key;
	u64 got, want, period;

	if (!m->cookie || !cookie)
		return false;
	period = s->cookie_period + 1;
	period -= (u8)((u8)period - cookie[0]);
	if (period + 1 < s->cookie_period)
		return false;
	COPY(&got, cookie + 1, sizeof(got));
	key = key_of(period);
	if (!key)
		return false;
	want = cookie_hash(ctx, p, m, key);
	return want && want == got;
}

INLINE u16 fold(s64 sum)
{
	u32 s = sum;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

// What the UDP checksum covers. Mapped IPv4 addresses sum up as IPv4 addresses
// do: the two 0xffff are nothing in ones' complement.
struct checksummed {
	struct address source, destination;
	be32 length, protocol;
	struct udp_header udp;
	struct cookie_answer answer;
} PACKED ALIGNED(4);

// write_headers turns the frame round: it goes back where it came from.
INLINE bool write_headers(struct xdp_md *ctx, struct packet *p, u32 datagram)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	u8 mac[6];

	if (!eth)
		return false;
	COPY(mac, eth->source, 6);
	COPY(eth->source, eth->destination, 6);
	COPY(eth->destination, mac, 6);
	if (p->ipv4) {
		struct ipv4_header ip = {
			.version_ihl = 0x45,
			.total_length = BE16(sizeof(ip) + datagram),
			.fragment = BE16(0x4000), // never fragmented, so it needs no ID (RFC 6864)
			.ttl = 64,
			.protocol = IPPROTO_UDP,
			.source = p->local.word[3],
			.destination = p->remote.word[3],
		};
		struct ipv4_header *to = at(ctx, p->network, sizeof(*to));

		if (!to)
			return false;
		ip.checksum = fold(bpf_csum_diff(0, 0, (be32 *)&ip, sizeof(ip), 0));
		COPY(to, &ip, sizeof(ip));
		return true;
	}
	struct ipv6_header *ip = at(ctx, p->network, sizeof(*ip));

	if (!ip)
		return false;
	ip->version_class_flow = BE32(6u << 28);
	ip->payload_length = BE16(datagram);
	ip->hop_limit = 64;
	COPY(ip->source, &p->local, sizeof(p->local));
	COPY(ip->destination, &p->remote, sizeof(p->remote));
	return true;
}

// answer makes the frame one with a COOKIE. Nobody sends a first message with
// IP options or extensions: that isn't answered.
VERIFIED_ALONE u32 answer(struct xdp_md *ctx, const struct settings *s, struct packet *p, struct message *m)
{
	struct cookie_key *key;
	struct ike_header *request;
	struct checksummed c = {};
	struct udp_header *udp;
	u32 marker, datagram;
	u8 *body;
	u64 hash;

	if (!s || !p || !m || !p->plain)
		return false;
	key = key_of(s->cookie_period);
	request = at(ctx, m->offset, sizeof(*request));
	if (!key || !request)
		return false;
	marker = m->offset - p->transport - sizeof(*udp);
	datagram = sizeof(*udp) + marker + ANSWER_LEN;
	c.source = p->local;
	c.destination = p->remote;
	c.length = BE32(datagram);
	c.protocol = BE32(IPPROTO_UDP);
	c.udp.source = p->local_port;
	c.udp.destination = p->remote_port;
	c.udp.length = BE16(datagram);
	c.answer.ike.initiator_spi = request->initiator_spi;
	c.answer.ike.next = PAYLOAD_NOTIFY;
	c.answer.ike.version = 0x20;
	c.answer.ike.exchange = request->exchange;
	c.answer.ike.flags = IKE_RESPONSE;
	c.answer.ike.length = BE32(ANSWER_LEN);
	c.answer.notify.payload.length = BE16(ANSWER_LEN - IKE_HEADER);
	c.answer.notify.type = BE16(NOTIFY_COOKIE);
	c.answer.version = key->period;
	hash = cookie_hash(ctx, p, m, key);
	COPY(c.answer.hash, &hash, sizeof(hash));
	c.udp.checksum = fold(bpf_csum_diff(0, 0, (be32 *)&c, sizeof(c), 0));
	if (!c.udp.checksum)
		c.udp.checksum = 0xffff;

	if (bpf_xdp_adjust_tail(ctx, (int)(p->transport + datagram) - (int)frame_length(ctx)))
		return false;
	if (!write_headers(ctx, p, datagram))
		return false;
	udp = at(ctx, p->transport, sizeof(*udp));
	body = at(ctx, p->transport + sizeof(*udp) + marker, ANSWER_LEN);
	if (!udp || !body)
		return false;
	COPY(udp, &c.udp, sizeof(*udp));
	COPY(body, &c.answer, ANSWER_LEN);
	return true; // the marker, four zeros, is where it was
}
