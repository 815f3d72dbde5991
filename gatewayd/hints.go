package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/roamgate/roamgate/control/ike"
)

// hints is a handler that adds to lines about devices that could not connect
// what the administrator can do about it, as "hint". Package session doesn't
// know the keys of the configuration, this package does.
type hints struct{ slog.Handler }

func (h hints) Handle(ctx context.Context, r slog.Record) error {
	var reason, detail string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "reason":
			reason = a.Value.String()
		case "detail":
			detail = a.Value.String()
		}
		return true
	})
	if text := hint(ike.CloseReason(reason), detail); text != "" {
		r.AddAttrs(slog.String("hint", text))
	}
	return h.Handler.Handle(ctx, r)
}

func (h hints) WithAttrs(attrs []slog.Attr) slog.Handler { return hints{h.Handler.WithAttrs(attrs)} }
func (h hints) WithGroup(name string) slog.Handler       { return hints{h.Handler.WithGroup(name)} }

// hint for a reason of ike.Closed; empty where the reason says it all.
func hint(reason ike.CloseReason, detail string) string {
	switch reason {
	case ike.CloseNoProposal:
		return proposalHint(detail)
	case ike.CloseAuthMethod:
		if strings.Contains(detail, "SHA-1") {
			return "the device signs with SHA-1: let it use RFC 7427 signatures or ECDSA, or allow legacy.sha1_signatures"
		}
		return ""
	case ike.CloseNoNATDetection:
		return "switch NAT traversal on in the device: ESP goes through UDP always"
	case ike.CloseNoAddress:
		return "gateway.static.pools has no free address of the family that the device asks for"
	default:
		return ""
	}
}

// proposalHint looks at what the device offered, the beginning of which is in
// the detail.
func proposalHint(detail string) string {
	if strings.HasPrefix(detail, "ESP: ") {
		if only(detail, "HMAC_SHA1_96", "HMAC_SHA2_", "AES_GCM_", "CHACHA20_") {
			return "the device offers only HMAC-SHA1 for ESP, as Windows does by default: set a VPNv2 profile, or allow legacy.hmac_sha1"
		}
		if only(detail, "3DES_CBC", "AES_", "CHACHA20_") {
			return "the device offers only 3DES for ESP: set AES in the device, or allow legacy.triple_des"
		}
		return "compare the offer with gateway.esp.proposals"
	}
	switch {
	case only(detail, "MODP_1024", "MODP_1536", "MODP_2048", "MODP_3072", "MODP_4096", "ECP_", "CURVE_"):
		return "the device offers only MODP-1024, as Windows does by default: set a VPNv2 profile or NegotiateDH2048_AES256, or allow legacy.modp_1024"
	case only(detail, "3DES_CBC", "AES_", "CHACHA20_"):
		return "the device offers only 3DES: set AES in the device, or allow legacy.triple_des"
	case only(detail, "HMAC_SHA1_96", "HMAC_SHA2_", "AES_GCM_", "CHACHA20_"):
		return "the device offers only HMAC-SHA1: set SHA-256 in the device, or allow legacy.hmac_sha1"
	}
	return "compare the offer with gateway.ike.proposals"
}

// only: one of a kind is there and none of the others. Names of transforms
// stand between slashes, spaces and commas.
func only(offer, one string, others ...string) bool {
	found := false
	for name := range strings.FieldsFuncSeq(offer, func(r rune) bool { return r == '/' || r == ' ' || r == ',' }) {
		found = found || name == one
		for _, other := range others {
			if strings.HasPrefix(name, other) {
				return false
			}
		}
	}
	return found
}
