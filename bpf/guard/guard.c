//go:build ignore

// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// XDP program for the side of the devices. A packet goes from top to bottom:
//
//	parse       Ethernet, VLAN tags, IP and its extensions     parse.h
//	gateway     is it for the gateway, and what is it
//	esp         known SPI?
//	ike         first message of an IKE SA? rates, cookies     rate.h, cookie.h
//	shield      what of the rest passes                        shield.h
//	finish      count, show a sample of drops
//
// Nothing is believed because of what passes here: generic XDP runs after GRO
// and sees one packet of many.
#include "bpf.h"
#include "net.h"

#include "maps.h"
#include "parse.h"
#include "rate.h"
#include "cookie.h"
#include "shield.h"

char _license[] SEC("license") = "GPL";

// tell puts an event into the ring, with the first octets of the frame in whole
// words. A full ring loses it: events are hints.
VERIFIED_ALONE u32 tell(struct xdp_md *ctx, struct packet *p, u32 kind, u32 verdict, u64 now)
{
	struct event *e;
	u32 n = 0;

	if (!p)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->time = now;
	e->kind = kind;
	e->verdict = verdict;
	e->remote = p->remote;
	e->local = p->local;
	e->remote_port = p->remote_port;
	e->local_port = p->local_port;
	e->spi = p->spi;
	e->length = frame_length(ctx);
	e->encapsulated = p->encapsulated;
	e->unused = 0;
#pragma clang loop unroll(disable)
	for (; n < SAMPLE_LEN / 4; n++) {
		u32 *word = at(ctx, n * 4, 4);

		if (!word)
			break;
		e->data[n] = *word;
	}
	e->captured = n * 4;
	bpf_ringbuf_submit(e, 0);
	return n;
}

INLINE u32 esp(struct xdp_md *ctx, const struct settings *s, struct packet *p, u32 offset)
{
	be32 *spi = at(ctx, offset, sizeof(*spi));
	u64 now;

	if (!spi || offset + sizeof(*spi) > p->end)
		return VERDICT_OTHER;
	p->spi = *spi;
	if (bpf_map_lookup_elem(&spis, &p->spi))
		return VERDICT_ESP;
	now = bpf_ktime_get_ns();
	if (take_global(s, RATE_REPORT, now, false))
		tell(ctx, p, EVENT_UNKNOWN_SPI, VERDICT_ESP_UNKNOWN, now);
	return VERDICT_ESP_UNKNOWN;
}

// is_within the rates for first messages without a cookie. They are looked at
// from wide to narrow, so that a flood doesn't turn over the table of sources,
// and paid from narrow to wide: what one source has too much takes nothing from
// its neighbours.
INLINE bool is_within(struct packet *p, const struct settings *s, u64 now)
{
	return take_global(s, RATE_INIT, now, true) && take_source(p, s, RATE_INIT_WIDE, now, true) &&
	       take_source(p, s, RATE_INIT_NARROW, now, false) && take_source(p, s, RATE_INIT_WIDE, now, false) &&
	       take_global(s, RATE_INIT, now, false);
}

// first_message: a cookie that was made for it opens buckets of its own;
// without, the rates decide whether it passes or is answered. A repeated request
// meets the same rules, and gets the same cookie.
VERIFIED_ALONE u32 first_message(struct xdp_md *ctx, const struct settings *s, struct packet *p, u32 offset, bool notify)
{
	struct message m = {.offset = offset};
	u64 now = bpf_ktime_get_ns();
	bool cookies, whole = false;

	if (!s || !p)
		return VERDICT_OTHER;
	m.length = p->end - offset;
	cookies = now < s->cookies_until;
	if (cookies && notify) {
		whole = !p->more && scan(ctx, &m);
		if (whole && is_valid(ctx, s, p, &m)) {
			if (take_source(p, s, RATE_COOKIE_NARROW, now, false) && take_global(s, RATE_COOKIE, now, false))
				return VERDICT_INIT_COOKIE;
			return VERDICT_INIT_LIMITED;
		}
	}
	if (is_within(p, s, now))
		return VERDICT_INIT;
	if (!cookies)
		return VERDICT_INIT_LIMITED;
	if (!notify)
		whole = !p->more && scan(ctx, &m);
	if (!whole)
		return VERDICT_INIT_MALFORMED;
	return answer(ctx, s, p, &m) ? VERDICT_COOKIE_SENT : VERDICT_INIT_LIMITED;
}

INLINE u32 ike(struct xdp_md *ctx, const struct settings *s, struct packet *p, u32 offset)
{
	struct ike_header *h = at(ctx, offset, sizeof(*h));

	if (!h || offset + sizeof(*h) > p->end)
		return VERDICT_OTHER;
	if (h->version >> 4 != 2 || (h->exchange != IKE_SA_INIT && h->exchange != IKE_SESSION_RESUME))
		return VERDICT_IKE;
	return first_message(ctx, s, p, offset, h->next == PAYLOAD_NOTIFY);
}

// udp finds what ESP in UDP and IKE are in (RFC 3948 section 2, RFC 7296
// section 3.1). Sets p->end to the end of the datagram.
INLINE u32 udp(struct xdp_md *ctx, const struct settings *s, struct packet *p)
{
	struct udp_header *u = at(ctx, p->transport, sizeof(*u));
	u32 offset = p->transport + sizeof(*u), length;
	u8 *octet;
	be32 *word;

	if (!u || offset > p->end || (p->local_port != s->ike_port && p->local_port != s->encap_port))
		return VERDICT_OTHER;
	length = BE16(u->length);
	if (!p->more) {
		if (length < sizeof(*u) || p->transport + length > p->end)
			return VERDICT_OTHER;
		p->end = p->transport + length;
	}
	if (p->local_port == s->ike_port)
		return ike(ctx, s, p, offset);
	if (p->end - offset == 1) {
		octet = at(ctx, offset, 1);
		return octet && *octet == 0xff && !p->more ? VERDICT_KEEPALIVE : VERDICT_OTHER;
	}
	word = at(ctx, offset, sizeof(*word));
	if (!word || offset + sizeof(*word) > p->end)
		return VERDICT_OTHER;
	if (*word == 0)
		return ike(ctx, s, p, offset + sizeof(*word));
	p->encapsulated = 1;
	return esp(ctx, s, p, offset);
}

INLINE void read_ports(struct xdp_md *ctx, struct packet *p)
{
	be16 *ports;

	if (p->later || (p->protocol != IPPROTO_UDP && p->protocol != IPPROTO_TCP))
		return;
	ports = at(ctx, p->transport, 4);
	if (!ports)
		return;
	p->remote_port = ports[0];
	p->local_port = ports[1];
}

// gateway: VERDICT_OTHER if it isn't for the gateway. A later fragment has no
// ports and no SPI: what could be ours passes at a rate. In IPv6 what is behind
// extensions could be.
INLINE u32 gateway(struct xdp_md *ctx, const struct settings *s, struct packet *p)
{
	if (!bpf_map_lookup_elem(&locals, &p->local))
		return VERDICT_OTHER;
	if (p->later) {
		if (p->protocol != IPPROTO_UDP && p->protocol != IPPROTO_ESP &&
		    p->protocol != IPPROTO_DSTOPTS && p->protocol != IPPROTO_ROUTING)
			return VERDICT_OTHER;
		return take_global(s, RATE_FRAGMENT, bpf_ktime_get_ns(), false) ? VERDICT_FRAGMENT
										: VERDICT_FRAGMENT_LIMITED;
	}
	if (p->protocol == IPPROTO_ESP)
		return esp(ctx, s, p, p->transport);
	if (p->protocol == IPPROTO_UDP)
		return udp(ctx, s, p);
	return VERDICT_OTHER;
}

INLINE u32 inspect(struct xdp_md *ctx, const struct settings *s, struct packet *p)
{
	u32 verdict;

	if (!parse(ctx, p))
		return VERDICT_OTHER;
	read_ports(ctx, p);
	verdict = gateway(ctx, s, p);
	if (verdict != VERDICT_OTHER || !s->shield)
		return verdict;
	return is_essential(ctx, p) || is_allowed(p, s->allowed) ? VERDICT_OTHER : VERDICT_SHIELD;
}

INLINE int finish(struct xdp_md *ctx, const struct settings *s, struct packet *p, u32 verdict)
{
	u64 *count = bpf_map_lookup_elem(&verdicts, &verdict);
	u64 now;

	if (count)
		(*count)++;
	if (verdict == VERDICT_COOKIE_SENT)
		return XDP_TX;
	if (verdict < VERDICT_COOKIE_SENT)
		return XDP_PASS;
	if (s->rates[RATE_SAMPLE].interval) {
		now = bpf_ktime_get_ns();
		if (take_global(s, RATE_SAMPLE, now, false))
			tell(ctx, p, EVENT_SAMPLE, verdict, now);
	}
	return XDP_DROP;
}

SEC("xdp")
int guard(struct xdp_md *ctx)
{
	struct packet p = {};
	u32 zero = 0;
	struct settings *s = bpf_map_lookup_elem(&config, &zero);

	if (!s)
		return XDP_PASS;
	return finish(ctx, s, &p, inspect(ctx, s, &p));
}
