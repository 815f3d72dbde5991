package store_test

import (
	"testing"

	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// What DM sessions need of any queue.
func TestSessions(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, open func(testing.TB) *database.DB) {
		sessiontest.Run(t, func(t *testing.T) sessiontest.Feeder {
			return storetest.NewFeeder(t, storetest.Store(t, open(t), nil))
		})
	})
}
