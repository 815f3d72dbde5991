package accounts

import (
	"context"
	"errors"
	"time"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/task"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

// Closing is what enrollment does for a device that was wiped.
type Closing interface {
	CloseEnrollment(ctx context.Context, by directory.By, name string, enrolled time.Time, reason ca.Reason, at time.Time) (bool, error)
}

// Closer closes devices at enrollment. It needs no key of the CA: a revocation is
// a record, and the enrollment server, which signs the lists, sees it within a
// second wherever it runs.
type Closer struct {
	Directory Closing
	// By whom, for the audit record.
	By  string
	Now func() time.Time
}

var _ task.Closer = Closer{}

// CloseAccount implements task.Closer.
func (c Closer) CloseAccount(ctx context.Context, w store.Wipe) error {
	_, err := c.Directory.CloseEnrollment(ctx, directory.By{Name: c.By}, w.Device, w.Enrolled, ca.CessationOfOperation, c.Now())
	if errors.Is(err, directory.ErrNotFound) {
		return nil // an account that wasn't made by enrollment
	}
	return err
}
