package session

import (
	"errors"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// maxRechecks is how many decisions about sessions that are up may be under way
// in all shards, so that a reload doesn't keep new logins waiting.
const maxRechecks = 64

// decide has the current policy look at a session's evidence. again: the peer
// is admitted already, by an earlier policy.
func (sh *shard) decide(s *session, again bool) {
	if !s.evidence.given {
		sh.renew(time.Now(), s, again)
		return
	}
	sh.judge(s, s.evidence.present(), again)
}

// judge is decide with the evidence at hand.
func (sh *shard) judge(s *session, evidence admit.Evidence, again bool) {
	policy, rolled, id := sh.server.settings.Load().Admit, sh.server.rolled.Load(), s.id
	sh.server.work.put(s.class(), func() {
		admission, err := policy.Decide(time.Now(), evidence)
		sh.mail.put(decided{id: id, again: again, policy: policy, rolled: rolled, admission: admission, err: err})
	})
}

// decided is what a policy said.
type decided struct {
	id        lease.SessionID
	again     bool
	policy    *admit.Policy
	rolled    uint64 // changes of the policy's Roll before
	admission admit.Admission
	err       error
}

// deliver asks once more if the policy was replaced meanwhile: recheckAll did
// not find this session admitted yet.
func (d decided) deliver(sh *shard, now time.Time) {
	if d.again {
		sh.rechecking--
		sh.recheck()
	}
	s := sh.sessions[d.id]
	switch {
	case s == nil || s.closing != "":
	case errors.Is(d.err, errReused): // whatever another policy would say
		sh.refused(now, s, d)
	case d.policy != sh.server.settings.Load().Admit:
		if !d.again {
			sh.decide(s, false)
		}
	case d.err != nil:
		sh.refused(now, s, d)
	case d.outdated(sh, now):
		if d.again {
			sh.decideAgain(s)
		} else {
			sh.decide(s, false)
		}
	case d.again:
		sh.admittedAgain(now, s, d.admission)
	default:
		if d.admission.Certificate != nil {
			s.standing = newStanding(d.admission.Standing, now, nil)
			if s.standing.device == d.admission.Device {
				d.admission.Device = s.standing.device // one string for all who keep it
			}
		}
		s.admitted, s.device, s.group = true, d.admission.Device, d.admission.Group
		s.assigned = d.admission.Addresses
		admitted := ike.Admitted{
			Device: d.admission.Device, Group: d.admission.Group, Until: d.admission.Until,
			RedirectTo: sh.server.settings.Load().Redirect.of(d.admission.Device),
		}
		if c := d.admission.Certificate; c != nil {
			admitted.PublicKey = c.PublicKey
			if s.evidence.given {
				sh.models.compact(&s.evidence, c.RawIssuer, &sh.octets)
			}
		}
		sh.index.add(s)
		sh.step(now, s.current, admitted)
	}
}

// outdated says whether the policy's Roll has changed meanwhile so that the
// device isn't admitted any more; otherwise the admission becomes that of now. A
// change that comes later finds the session in the index.
func (d *decided) outdated(sh *shard, now time.Time) bool {
	if d.rolled == sh.server.rolled.Load() {
		return false
	}
	admission, err := d.policy.Renew(now, d.admission.Standing)
	if err != nil {
		return true
	}
	admission.Certificate = d.admission.Certificate
	d.admission = admission
	return false
}

func (sh *shard) refused(now time.Time, s *session, d decided) {
	sh.server.countRefusal(now, d.err, s.remote)
	if d.again {
		sh.server.log.Info("session no longer admitted",
			slog.String("device", s.device), slog.String("remote", s.remote.String()), slog.Any("reason", d.err))
		sh.close(now, s, ike.CloseRevoked)
		return
	}
	sh.step(now, s.current, ike.Refused{Reason: d.err.Error()})
}

// decideAgain about a session that was admitted.
func (sh *shard) decideAgain(s *session) {
	sh.rechecking++
	sh.decide(s, true)
}

// recheckAll has the current policy look at all who were admitted by another, a
// few at a time.
type recheckAll struct{}

func (recheckAll) deliver(sh *shard, _ time.Time) {
	sh.unchecked = sh.unchecked[:0]
	for id, s := range sh.sessions {
		if s.admitted {
			sh.unchecked = append(sh.unchecked, id)
		}
	}
	sh.recheck()
}

// recheck goes on with recheckAll.
func (sh *shard) recheck() {
	for len(sh.unchecked) > 0 && sh.rechecking < max(maxRechecks/len(sh.server.shards), 1) {
		last := len(sh.unchecked) - 1
		s := sh.sessions[sh.unchecked[last]]
		sh.unchecked = sh.unchecked[:last]
		if s != nil && s.closing == "" {
			sh.decideAgain(s)
		}
	}
}
