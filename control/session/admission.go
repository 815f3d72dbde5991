package session

import (
	"errors"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
)

// decide has the current policy look at a session's evidence. again: the peer
// is admitted already, by an earlier policy.
func (sh *shard) decide(s *session, again bool) {
	policy, spi, evidence := sh.server.settings.Load().Admit, s.spi, *s.evidence
	sh.server.work.jobs.put(func() {
		admission, err := policy.Decide(time.Now(), evidence)
		sh.mail.put(decided{spi: spi, again: again, policy: policy, admission: admission, err: err})
	})
}

// decided is what a policy said.
type decided struct {
	spi       uint64
	again     bool
	policy    *admit.Policy
	admission admit.Admission
	err       error
}

// deliver asks once more if the policy was replaced meanwhile: recheckAll did
// not find this session admitted yet.
func (d decided) deliver(sh *shard, now time.Time) {
	s := sh.sessions[d.spi]
	switch {
	case s == nil || s.closed || s.closing:
	case d.policy != sh.server.settings.Load().Admit:
		sh.decide(s, d.again)
	case d.err != nil:
		sh.refused(now, s, d)
	case d.again:
		s.until = d.admission.Until
	default:
		s.admitted, s.device = true, d.admission.Device
		sh.step(now, s, ike.Admitted{
			Device: d.admission.Device, Group: d.admission.Group,
			PublicKey: d.admission.Certificate.PublicKey, Until: d.admission.Until,
		})
	}
}

func (sh *shard) refused(now time.Time, s *session, d decided) {
	var refusal *admit.Refusal
	if errors.As(d.err, &refusal) {
		sh.server.stats.refused(refusal.Reason)
	}
	if d.again {
		sh.server.log.Info("session no longer admitted",
			slog.String("device", s.device), slog.String("remote", s.remote.String()), slog.Any("reason", d.err))
		sh.close(now, s, ike.CloseRevoked)
		return
	}
	sh.step(now, s, ike.Refused{Reason: d.err.Error()})
}

// recheckAll has the current policy look at all who were admitted by another.
type recheckAll struct{}

func (recheckAll) deliver(sh *shard, _ time.Time) {
	for _, s := range sh.sessions {
		if s.admitted && !s.closed && !s.closing {
			sh.decide(s, true)
		}
	}
}
