package session

import (
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/dataplane"
)

// Quick crash detection (RFC 6290): machines give the token, and who asks for an
// IKE SA that isn't here, is shown it.

// eventCrashToken: somebody was told that his IKE SA is gone.
const eventCrashToken = "crash_token_shown"

// withCrashToken has machines give tokens of the secret that the server shows.
func (s *Server) withCrashToken(settings *Settings) *Settings {
	if s.crashSecret == (gate.Secret{}) {
		return settings
	}
	with, cfg := *settings, *settings.IKE
	cfg.CrashToken = s.crashSecret.CrashToken
	with.IKE = &cfg
	return &with
}

// unknownIKE answers a message for an IKE SA that the shard of its SPI, the only
// one that could, doesn't have.
func (s *Server) unknownIKE(now time.Time, p packet) {
	if s.crashSecret == (gate.Secret{}) || s.draining.Load() {
		return
	}
	answer := s.gate.AnswerCrash(now, &p.header, len(p.data), &s.crashSecret, make([]byte, 0, answerBuffer))
	if answer == nil {
		return
	}
	s.stats.event(eventCrashToken)
	s.sendUnprotected(dataplane.Datagram{Data: answer, Local: p.local, Remote: p.remote, Marker: p.marker})
}
