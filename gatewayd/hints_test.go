package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// What clients really offer, as package ike describes it, and what the
// administrator is told.
func TestHints(t *testing.T) {
	const windows = "offered 3DES_CBC/PRF_HMAC_SHA1/HMAC_SHA1_96/MODP_1024, 3DES_CBC/PRF_HMAC_SHA2_256/HMAC_SHA2_256_128/MODP_1024, " +
		"AES_CBC_256/PRF_HMAC_SHA2_384/HMAC_SHA2_384_192/MODP_1024 ..."
	for _, tt := range []struct {
		reason       ike.CloseReason
		detail, want string
	}{
		{ike.CloseNoProposal, windows, "the device offers only MODP-1024, as Windows does by default: set a VPNv2 profile or NegotiateDH2048_AES256, or allow legacy.modp_1024"},
		{ike.CloseNoProposal, "offered AES_CBC_256/PRF_HMAC_SHA2_256/HMAC_SHA2_256_128/MODP_1024/MODP_2048", "compare the offer with gateway.ike.proposals"},
		{ike.CloseNoProposal, "offered 3DES_CBC/PRF_HMAC_SHA2_256/HMAC_SHA2_256_128/MODP_2048", "allow legacy.triple_des"},
		{ike.CloseNoProposal, "offered AES_CBC_128/PRF_HMAC_SHA1/HMAC_SHA1_96/MODP_2048", "allow legacy.hmac_sha1"},
		{ike.CloseNoProposal, "offered CAMELLIA_CBC_128/PRF_HMAC_SHA2_256/HMAC_SHA2_256_128/MODP_2048", "compare the offer with gateway.ike.proposals"},
		{ike.CloseNoProposal, "ESP: offered AES_CBC_256/HMAC_SHA1_96/NO_EXT_SEQ, 3DES_CBC/HMAC_SHA1_96/NO_EXT_SEQ", "allow legacy.hmac_sha1"},
		{ike.CloseNoProposal, "ESP: offered AES_CTR_128/HMAC_SHA2_256_128", "compare the offer with gateway.esp.proposals"},
		{ike.CloseNoNATDetection, "", "switch NAT traversal on"},
		{ike.CloseNoAddress, "", "gateway.static.pools"},
		{ike.CloseKilled, "", ""},
	} {
		if got := hint(tt.reason, tt.detail); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s %s: got %q, want %q", tt.reason, tt.detail, got, tt.want)
		}
	}
}

// The hint stands in the line that package session writes, in each format, and
// in no other.
func TestHintInTheLog(t *testing.T) {
	for _, format := range []config.LogFormat{config.LogText, config.LogJSON} {
		var out bytes.Buffer
		log := newLogger(&out, format, slog.LevelInfo).With(slog.Int("a", 1)).WithGroup("g")
		log.Info("session refused", slog.String("reason", "no_proposal_chosen"), slog.String("detail", "offered AES_CBC_256/PRF_HMAC_SHA1/HMAC_SHA1_96/MODP_1024"))
		if !strings.Contains(out.String(), "allow legacy.modp_1024") {
			t.Errorf("%s: %s", format, &out)
		}
		out.Reset()
		log.Info("session closed", slog.String("reason", "killed"))
		log.Debug("session refused", slog.String("reason", "no_proposal_chosen"))
		if strings.Contains(out.String(), "hint") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %s", format, &out)
		}
	}
}
