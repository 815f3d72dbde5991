// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// Token buckets as one word each: the time at which the next packet is due if
// all came evenly (the generic cell rate algorithm, ITU-T I.371 annex A). A word
// that is zero is a full bucket, and one compare-and-swap takes a packet, so
// CPUs share a bucket without a lock. Under a flood it is only read.
#pragma once

INLINE bool within(u64 due, const struct rate *rate, u64 now)
{
	return rate->interval && (due <= now || due - now <= rate->burst);
}

// take one packet from the bucket. Whoever loses the word to other CPUs again
// and again is in a flood, and refused.
INLINE bool take(u64 *word, const struct rate *rate, u64 now)
{
	for (u32 i = 0; i < 4; i++) {
		u64 due = READ_ONCE(*word);

		if (!within(due, rate, now))
			return false;
		if (__sync_val_compare_and_swap(word, due, (due > now ? due : now) + rate->interval) == due)
			return true;
	}
	return false;
}

// take_global, and with peek only look.
INLINE bool take_global(const struct settings *s, u32 name, u64 now, bool peek)
{
	u32 key = name;
	struct bucket *b = bpf_map_lookup_elem(&buckets, &key);

	if (!b)
		return false;
	if (peek)
		return within(READ_ONCE(b->due), &s->rates[name], now);
	return take(&b->due, &s->rates[name], now);
}

// take_source from the bucket of the packet's source prefix, and with peek only
// look: wide is an IPv4 /24
// or IPv6 /56, otherwise an IPv4 address or IPv6 /64. The table forgets whom it
// heard of longest ago, so a flood from everywhere empties it, and meets the
// global bucket.
VERIFIED_ALONE u32 take_source(struct packet *p, const struct settings *s, u32 name, u64 now, bool peek)
{
	struct source key = {.rate = name};
	bool wide = name == RATE_INIT_WIDE;
	u64 *word, first;

	if (!p || !s || name >= RATE_COUNT)
		return false;
	key.prefix = p->remote;
	if (p->ipv4) {
		if (wide)
			key.prefix.word[3] &= BE32(0xffffff00);
	} else {
		if (wide)
			key.prefix.word[1] &= BE32(0xffffff00);
		key.prefix.word[2] = key.prefix.word[3] = 0;
	}
	word = bpf_map_lookup_elem(&sources, &key);
	if (word)
		return peek ? within(READ_ONCE(*word), &s->rates[name], now) : take(word, &s->rates[name], now);
	if (!s->rates[name].interval)
		return false;
	if (peek)
		return true;
	first = now + s->rates[name].interval;
	// Another CPU may have been faster: one packet too many passes then.
	bpf_map_update_elem(&sources, &key, &first, BPF_NOEXIST);
	return true;
}
