package agent

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/roamgate/roamgate/control/gcm"
)

// near says whether a version's epoch is one that a manager may take. To a gateway
// that has nothing, or has forgotten its versions, that is any: it can't know how
// far its fleet has come, and whoever lies to it first is mended by
// ForgetVersions. Error: ErrEpoch.
func (a *Agent) near(v gcm.Version) error {
	var highest uint64
	for _, s := range a.sections {
		highest = max(highest, s.state.Load().Version.Epoch)
	}
	if highest == 0 {
		return nil
	}
	if v.Epoch > highest && v.Epoch-highest > gcm.MaxEpochStep {
		return fmt.Errorf("%w: %d, here is %d, and a manager may go %d further", gcm.ErrEpoch, v.Epoch, highest, gcm.MaxEpochStep)
	}
	return nil
}

// forgotten is the version of content whose own was forgotten: older than all
// that a manager commits, and not that of nothing.
var forgotten = gcm.Version{Number: 1}

// ForgetVersions of all sections: what is there holds, and the next manager that
// connects says what comes after it. It is for who believes that somebody else
// was the manager, and nothing that a manager can ask for. It is on disk when
// ForgetVersions returns nil.
func (a *Agent) ForgetVersions() error {
	var wrong []error
	for _, name := range gcm.Sections {
		if err := a.forgetVersion(a.sections[name]); err != nil {
			wrong = append(wrong, fmt.Errorf("section %s: %w", name, err))
		}
	}
	return errors.Join(wrong...)
}

func (a *Agent) forgetVersion(s *section) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.set.Version()
	if had == (gcm.Version{}) {
		return nil
	}
	if err := a.store.setVersion(s.set.Section(), forgotten, s.set.Hash()); err != nil {
		return err
	}
	s.view.Lock()
	s.set.Renumber(forgotten)
	s.view.Unlock()
	state := *s.state.Load()
	state.Version = forgotten
	s.state.Store(&state)
	a.config.Log.Warn("the version of what was pushed is forgotten", slog.String("section", string(s.set.Section())), slog.String("was", had.String()))
	return nil
}
