package store

import (
	"context"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// Message of a session, as it travelled.
type Message struct {
	ID     int64
	At     time.Time
	Device string
	// Sent by us. Proven: the device had authenticated; before that, what it says
	// of itself is a claim.
	Sent, Proven bool
	ContentType  string
	// Size of Octets.
	Size   int
	Octets []byte
}

// maxMessage is more than the server takes.
const maxMessage = 16 << 20

// LogMessages writes messages, compressed, in one transaction.
func (d *SQL) LogMessages(ctx context.Context, messages []Message) error {
	n := len(messages)
	at, sent, proven, sizes := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	devices, types, packed := make([]string, n), make([]string, n), make([][]byte, n)
	for i, m := range messages {
		at[i], devices[i], sent[i], proven[i] = m.At.UnixMicro(), text(m.Device), flag(m.Sent), flag(m.Proven)
		types[i], sizes[i] = text(m.ContentType), int64(len(m.Octets))
		var err error
		if packed[i], err = deflate(m.Octets); err != nil {
			return err
		}
	}
	return d.write(ctx, func(t *tx) error {
		return t.Insert("dm_message", "", database.Numbers("at_us", at), database.Texts("device_name", devices), database.Numbers("sent", sent),
			database.Numbers("proven", proven), database.Texts("content_type", types), database.Numbers("size", sizes), database.Blobs("octets", packed))
	})
}

// Messages of a device, the newest first, before one that was seen; zero means
// from the newest.
func (d *SQL) Messages(ctx context.Context, device string, before int64, limit int) ([]Message, error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	return query(ctx, d.db, func(r database.Row) (m Message, err error) {
		var at database.Instant
		var sent, proven int64
		var packed []byte
		if err := r.Scan(&m.ID, &at, &m.Device, &sent, &proven, &m.ContentType, &m.Size, &packed); err != nil {
			return m, err
		}
		m.At, m.Sent, m.Proven = at.Time, sent != 0, proven != 0
		m.Octets, err = inflate(packed, maxMessage)
		return m, err
	}, `SELECT id, at_us, device_name, sent, proven, content_type, size, octets FROM dm_message
		WHERE device_name = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, device, before, database.Page(limit))
}

// TrimMessages takes away what is older, at most limit of them, and says how
// many.
func (d *SQL) TrimMessages(ctx context.Context, before time.Time, limit int) (n int64, err error) {
	err = d.write(ctx, func(t *tx) error {
		n = 0
		ids, err := query(t.Context(), t, database.Scan[int64], `SELECT id FROM dm_message WHERE at_us < $1 ORDER BY at_us LIMIT $2`+t.SkipLocked("dm_message"),
			before.UnixMicro(), database.Page(limit))
		if err != nil || len(ids) == 0 {
			return err
		}
		n, err = t.Exec(`DELETE FROM dm_message WHERE `+t.Among("id", "BIGINT", 1), database.Several(t.Engine, ids))
		return err
	})
	return n, err
}
