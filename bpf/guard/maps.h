// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
//
// What program and loader share. The loader sets the sizes that follow the
// configuration (guard.go: sizes), and pins only `spis`; the others live as long
// as the program that uses them. Who changes the layout of `spis` raises
// spisLayout in pin.go.
#pragma once

// Verdict about a packet. Names and actions stand in verdict.go, in the same
// order.
enum verdict {
	VERDICT_OTHER,            // not the gateway's, or too short to tell: pass
	VERDICT_ESP,              // ESP of a known SPI: pass
	VERDICT_IKE,              // IKE but not the first message of an IKE SA: pass
	VERDICT_INIT,             // first message within the rates: pass
	VERDICT_INIT_COOKIE,      // first message with a valid cookie: pass
	VERDICT_FRAGMENT,         // later fragment, within the rate: pass
	VERDICT_COOKIE_SENT,      // first message beyond the rates, answered with COOKIE
	VERDICT_ESP_UNKNOWN,      // ESP of an unknown SPI: drop
	VERDICT_INIT_LIMITED,     // first message beyond the rates, without an answer: drop
	VERDICT_INIT_MALFORMED,   // the same, and no first message that can be answered: drop
	VERDICT_FRAGMENT_LIMITED, // later fragment beyond the rate: drop
	VERDICT_KEEPALIVE,        // NAT keepalive: drop
	VERDICT_SHIELD,           // not the gateway's, in shield mode: drop
	VERDICT_COUNT,
};

// Rates, each a bucket for all or for each source.
enum rate_name {
	RATE_INIT,        // first messages without a cookie, all together
	RATE_INIT_WIDE,   // of an IPv4 /24 or IPv6 /56
	RATE_INIT_NARROW, // of an IPv4 address or IPv6 /64
	RATE_COOKIE,      // first messages with a valid cookie, all together
	RATE_COOKIE_NARROW,
	RATE_FRAGMENT,
	RATE_REPORT, // unknown SPIs that are told
	RATE_SAMPLE, // dropped packets that are shown
	RATE_COUNT,
};

struct rate {
	u64 interval; // nanoseconds a packet; 0 lets nothing pass
	u64 burst;    // nanoseconds that packets may be ahead of their rate
};

struct settings {
	struct rate rates[RATE_COUNT];
	u64 cookies_until;  // CLOCK_MONOTONIC, ns: from then on no cookie is made or believed
	u64 cookie_period;  // the number of the current period
	be16 ike_port;
	be16 encap_port;
	u32 shield;         // 1: drop what isn't the gateway's
	u32 allowed;        // how many entries of `allowed` count
	u32 unused;
};

// Key of one period, in slot period % COOKIE_SLOTS.
enum { COOKIE_SLOTS = 4 };
struct cookie_key {
	u64 period;
	u64 key[2];
};

// Addresses are 16 octets, IPv4 mapped (RFC 4291 section 2.5.5.2).
struct address {
	be32 word[4];
};

// A source prefix and which bucket of it.
struct source {
	struct address prefix;
	u32 rate;
};

// A bucket on a cache line of its own.
struct bucket {
	u64 due; // see rate.h
	u64 unused[7];
};

// What passes in shield mode beside the essentials.
struct allow {
	struct address prefix, mask;
	be16 port;        // of this host; 0: any
	be16 remote_port; // 0: any
	u8 protocol;      // 0: any
	u8 unused[3];
};

enum event_kind {
	EVENT_UNKNOWN_SPI = 1,
	EVENT_SAMPLE = 2,
};

enum { SAMPLE_LEN = 96, ALLOW_MAX = 64, LOCALS_MAX = 64 };

struct event {
	u64 time; // CLOCK_MONOTONIC, ns
	u32 kind;
	u32 verdict;
	struct address remote, local;
	be16 remote_port, local_port;
	be32 spi;
	u32 length; // of the frame
	u16 captured;    // octets of data
	u8 encapsulated; // ESP in UDP
	u8 unused;
	u32 data[SAMPLE_LEN / 4]; // as it lies there
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, be32);
	MAP_TYPE(value, u32);
	MAP_UINT(max_entries, 1024);
} spis SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct address);
	MAP_TYPE(value, u32);
	MAP_UINT(max_entries, LOCALS_MAX);
} locals SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct settings);
	MAP_UINT(max_entries, 1);
} config SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct cookie_key);
	MAP_UINT(max_entries, COOKIE_SLOTS);
} cookie_keys SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct bucket);
	MAP_UINT(max_entries, RATE_COUNT);
} buckets SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct source);
	MAP_TYPE(value, u64);
	MAP_UINT(max_entries, 1024);
} sources SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct allow);
	MAP_UINT(max_entries, ALLOW_MAX);
} allowed SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
	MAP_UINT(max_entries, VERDICT_COUNT);
} verdicts SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_RINGBUF);
	MAP_UINT(max_entries, 1 << 18);
} events SEC(".maps");

// The ring has no value type: this one gives the loader the layout.
const struct event *event_layout __attribute__((unused));
