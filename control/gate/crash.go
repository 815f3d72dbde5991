package gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

/* Quick crash detection (RFC 6290)
 *
 * A gateway that came back without its IKE SAs shows a token that only who knows
 * the secret can make, so that the peer needn't wait for its liveness check to
 * fail. The token is for an IKE SA that isn't here, so two things must hold:
 *
 * It is shown for no IKE SA that exists (section 9.2). The caller looks for ours,
 * the SPI that the message says is the receiver's; and the token of a pair of
 * SPIs depends on which of them is ours, so that swapping their roles, by a flag
 * that anybody can set, gives a token that nobody believes.
 *
 * It is no lever: 60 octets answer 57 or more, which the shortest honest request
 * has.
 */

const (
	crashTokenLen = 16
	// minProtected is an empty request under AES-GCM: header, SK header, IV, pad
	// length, ICV.
	minProtected = headerLen + 4 + 8 + 1 + 16
	// crashAnswersPerSecond is more than the rest of what strangers get: after a
	// restart all devices ask. Each costs an HMAC.
	crashAnswersPerSecond = 1000
)

// CrashToken is the first half of HMAC-SHA-256(secret, label | ours | peers): 16
// octets, for an IKE SA with these SPIs. Gateways that share a secret can end each
// other's IKE SAs, so they don't, unless they share the IKE SAs as well (RFC 6290
// section 9.3).
func (s *Secret) CrashToken(ours, peers uint64) []byte {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte("roamgate crash"))
	mac.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, ours), peers))
	return mac.Sum(nil)[:crashTokenLen]
}

// AnswerCrash writes INVALID_IKE_SPI and the token over buffer, in answer to a
// protected request, length octets long, for an IKE SA that the caller doesn't
// have. nil: it wants no answer, or too many were given lately.
func (g *Gate) AnswerCrash(now time.Time, h *Header, length int, secret *Secret, buffer []byte) []byte {
	asks := h.exchange == exchangeCreateChild || h.exchange == exchangeInformational
	if !asks || h.flags&flagResponse != 0 || length < minProtected || !g.answers.Load().crash.Allow(now) {
		return nil
	}
	ours, peers := h.ResponderSPI, h.InitiatorSPI
	if !h.FromInitiator {
		ours, peers = peers, ours
	}
	answer := *h
	answer.flags = flagResponse | ^h.flags&flagInitiator
	dst := appendHeader(buffer[:0], &answer, notifyLen+notifyLen+crashTokenLen)
	dst = appendPayload(dst, payloadNotify, 0, notifyInvalidIKESPI, nil)
	return appendPayload(dst, 0, protocolIKE, notifyCrashToken, secret.CrashToken(ours, peers))
}
