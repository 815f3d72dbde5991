package store

import (
	"context"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// A survey goes in rounds. A round's Get commands wait as those of tasks do; the
// transaction that takes the last answer of a round puts the next one, so a
// session goes on with it, and one that ends leaves the rest to the next.

// round is how many nodes are asked for before answers decide what is next.
const round = 64

// BeginSurveys asks devices that are due for their inventories, the newest
// request of each replacing one that it didn't answer to the end, whose answers
// are kept. It is at most limit of them, and says how many. They are due again
// after a while.
func (v *Inventories) BeginSurveys(ctx context.Context, again time.Duration, limit int, roots ...inventory.Root) (n int, err error) {
	survey := inventory.NewSurvey(roots...)
	packed, err := pack(survey)
	if err != nil {
		return 0, err
	}
	uris := survey.Next(round)
	err = v.d.write(ctx, func(t *tx) error {
		now := v.d.now()
		names, err := query(t.Context(), t, database.Scan[string], `SELECT device_name FROM dm_survey WHERE due_us <= $1
			ORDER BY due_us LIMIT $2`+t.SkipLocked("dm_survey"), now.UnixMicro(), database.Page(limit))
		if n = len(names); err != nil || n == 0 {
			return err
		}
		several := database.Several(t.Engine, names)
		half, err := query(t.Context(), t, database.Scan[string], `SELECT device_name FROM dm_survey
			WHERE `+t.Among("device_name", "TEXT", 1)+` AND survey IS NOT NULL`, several)
		if err != nil {
			return err
		}
		for _, name := range half {
			if err := t.giveUpSurvey(name, now); err != nil {
				return err
			}
		}
		if _, err := t.Exec(`UPDATE dm_survey SET survey = $1, due_us = $2 WHERE `+t.Among("device_name", "TEXT", 3),
			packed, now.Add(again).UnixMicro(), several); err != nil {
			return err
		}
		return t.ask(names, uris, now)
	})
	return n, err
}

// ask devices for nodes.
func (t *tx) ask(devices, uris []string, now time.Time) error {
	var tasks, names []string
	var serials, places []int64
	for i, uri := range uris {
		command, err := marshalCommand(inventory.Command(uri))
		if err != nil {
			return err
		}
		task, err := t.standingTask(inventoryKind, uri, command, now)
		if err != nil {
			return err
		}
		for _, name := range devices {
			tasks, names = append(tasks, task), append(names, name)
			serials, places = append(serials, surveySerial), append(places, int64(surveyUrgency+i))
		}
	}
	return t.addStanding(tasks, names, serials, places)
}

const (
	// surveySerial in place of a policy's.
	surveySerial = 0
	// surveyUrgency: after everything else.
	surveyUrgency = 1_000_000
)

// surveyed is what a device said to a command of a survey.
type surveyed struct {
	id      int64
	uri     string
	outcome session.Outcome
}

// survey goes on by the answers of a device.
func (t *tx) survey(device string, answers []surveyed, at time.Time) error {
	s, err := t.openSurvey(device)
	if err != nil {
		return err
	}
	var ids []int64
	for _, a := range answers {
		ids = append(ids, a.id)
		if s != nil {
			s.Answer(a.uri, a.outcome.Code, a.outcome.Results)
		}
	}
	if err := t.forgetAsked(ids); err != nil || s == nil {
		return err
	}
	var waits bool
	if err := t.Row(`SELECT EXISTS (SELECT 1 FROM dm_command WHERE device_name = $1 AND serial = 0 AND state = 'waiting')`, device).Scan(&waits); err != nil {
		return err
	}
	if !waits {
		uris := s.Next(round)
		if len(uris) == 0 {
			return t.endSurvey(device, s, at)
		}
		if err := t.ask([]string{device}, uris, at); err != nil {
			return err
		}
	}
	packed, err := pack(s)
	if err != nil {
		return err
	}
	_, err = t.Exec(`UPDATE dm_survey SET survey = $1 WHERE device_name = $2`, packed, device)
	return err
}

// openSurvey of a device; nil if there is none.
func (t *tx) openSurvey(device string) (*inventory.Survey, error) {
	all, err := query(t.Context(), t, database.Scan[[]byte], `SELECT survey FROM dm_survey
		WHERE device_name = $1 AND survey IS NOT NULL`+t.ForUpdate(), device)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	s := new(inventory.Survey)
	return s, unpack(all[0], s)
}

func (t *tx) endSurvey(device string, s *inventory.Survey, at time.Time) error {
	if _, err := t.Exec(`UPDATE dm_survey SET survey = NULL WHERE device_name = $1`, device); err != nil {
		return err
	}
	if err := t.lockInventory(device); err != nil {
		return err
	}
	if err := t.inventory(device, s.Update(at)); err != nil {
		return err
	}
	// Also if nothing is new: filters have waited for it.
	var read bool
	if err := t.Row(`SELECT EXISTS (SELECT 1 FROM dm_policy_read)`).Scan(&read); err != nil || !read {
		return err
	}
	return t.mark(device)
}

// giveUpSurvey of a device that didn't answer all of it, and keep what it said.
func (t *tx) giveUpSurvey(device string, now time.Time) error {
	ids, err := query(t.Context(), t, database.Scan[int64], `SELECT id FROM dm_command WHERE device_name = $1 AND serial = 0 ORDER BY id`+t.ForUpdate(), device)
	if err != nil {
		return err
	}
	s, err := t.openSurvey(device)
	if err != nil || s == nil {
		return err
	}
	if err := t.forgetAsked(ids); err != nil {
		return err
	}
	return t.endSurvey(device, s, now)
}

// forgetAsked takes away commands, and contents that no other device is asked.
func (t *tx) forgetAsked(ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	tasks, err := query(t.Context(), t, database.Scan[string], `SELECT task_id FROM dm_command WHERE `+t.Among("id", "BIGINT", 1), database.Several(t.Engine, ids))
	if err != nil {
		return err
	}
	if err := t.forget(ids); err != nil {
		return err
	}
	return t.forgetContents(tasks)
}

// Surveyed says when a device is asked next, and whether it is being asked.
// ErrNotFound.
func (v *Inventories) Surveyed(ctx context.Context, device string) (next time.Time, now bool, err error) {
	var due database.Instant
	err = v.d.db.QueryRowContext(ctx, `SELECT due_us, survey IS NOT NULL FROM dm_survey WHERE device_name = $1`, device).Scan(&due, &now)
	return due.Time, now, found(err, "open device", device)
}

// SurveyNow makes a device due, or does nothing if it isn't open.
func (v *Inventories) SurveyNow(ctx context.Context, device string) error {
	return v.d.write(ctx, func(t *tx) error {
		_, err := t.Exec(`UPDATE dm_survey SET due_us = $1 WHERE device_name = $2`, v.d.now().UnixMicro(), device)
		return err
	})
}
