package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// PutSchedule of a group; "" is all devices.
func (d *SQL) PutSchedule(ctx context.Context, group string, rank int, text string) error {
	return d.write(ctx, func(t *tx) error {
		_, err := t.Exec(`INSERT INTO dm_schedule (group_name, rank, schedule) VALUES ($1, $2, $3)
			ON CONFLICT (group_name) DO UPDATE SET rank = excluded.rank, schedule = excluded.schedule`, group, int64(rank), text)
		return err
	})
}

// DeleteSchedule of a group. That there is none is no error.
func (d *SQL) DeleteSchedule(ctx context.Context, group string) error {
	return d.write(ctx, func(t *tx) error {
		_, err := t.Exec(`DELETE FROM dm_schedule WHERE group_name = $1`, group)
		return err
	})
}

// ScheduleOf a device: that of the group of lowest rank, of all devices where no
// group has one, "" without one.
func (d *SQL) ScheduleOf(ctx context.Context, device string) (schedule string, err error) {
	err = d.db.QueryRowContext(ctx, `SELECT schedule FROM dm_schedule
		WHERE group_name = '' OR group_name IN (SELECT group_name FROM dm_member WHERE device_name = $1)
		ORDER BY group_name = '', rank, group_name LIMIT 1`, device).Scan(&schedule)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return schedule, unavailable(err)
}

// ScheduleOfGroups is that of a device in certain groups, which needn't be known
// yet: see ScheduleOf.
func (d *SQL) ScheduleOfGroups(ctx context.Context, groups []string) (schedule string, err error) {
	marks, args := []string{"''"}, make([]any, len(groups))
	for i, g := range groups {
		marks, args[i] = append(marks, fmt.Sprintf("$%d", i+1)), g
	}
	err = d.db.QueryRowContext(ctx, `SELECT schedule FROM dm_schedule WHERE group_name IN (`+strings.Join(marks, ", ")+`)
		ORDER BY group_name = '', rank, group_name LIMIT 1`, args...).Scan(&schedule)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return schedule, unavailable(err)
}
