package fleet

import (
	"context"
	"errors"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Keep does what is due, as Run does by itself.
func (f *Fleet) Keep(ctx context.Context) error {
	return errors.Join(f.keep(ctx), f.keepCertificates(ctx))
}

// Believed says whether a gateway's word ends a device's sessions elsewhere.
func (f *Fleet) Believed(gateway, device string) bool { return f.ender.believed(gateway, device) }

// TicketKeys that gateways are told, oldest first.
func (f *Fleet) TicketKeys(ctx context.Context) (all []gcm.TicketKey, err error) {
	keys, err := ticketKeys(ctx, f.db)
	if err != nil {
		return nil, err
	}
	err = f.db.Read(ctx, func(t *database.Tx) error {
		all = nil
		records, err := f.ticketRecords(t)
		if err != nil {
			return err
		}
		of := map[[8]byte]gcm.TicketKey{}
		for _, r := range records {
			typed, err := gcm.Decode(gcm.Tickets, r)
			if err != nil {
				return err
			}
			k := typed.(gcm.TicketKey)
			of[k.ID] = k
		}
		for _, k := range keys {
			all = append(all, of[k.id])
		}
		return nil
	})
	return all, err
}
