package api

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/task"
)

// Devices is dmlink/store, as far as administrators look into it.
type Devices interface {
	Device(ctx context.Context, name string) (store.Device, error)
	Devices(ctx context.Context, f store.DeviceFilter) ([]store.Device, error)
	SetUnit(ctx context.Context, unit string, devices ...string) (int, error)
	Info(ctx context.Context, device string) ([]session.Value, error)
	Alerts(ctx context.Context, device string) ([]store.Alert, error)
	Messages(ctx context.Context, device string, before int64, limit int) ([]store.Message, error)
}

// Tasks is dmlink/store, as far as tasks that were placed are concerned.
type Tasks interface {
	Task(ctx context.Context, id string) (store.Task, error)
	Tasks(ctx context.Context, before store.Task, limit int) ([]store.Task, error)
	CommandsOfTask(ctx context.Context, task, after string, limit int) ([]store.Command, error)
	CommandsOfDevice(ctx context.Context, device string, before int64, limit int) ([]store.Command, error)
	Answer(ctx context.Context, command int64) (store.Answer, error)
	Cancel(ctx context.Context, task string) (int, error)
	Wipe(ctx context.Context, device string) (store.Wipe, error)
	Wipes(ctx context.Context, state store.WipeState, after string, limit int) ([]store.Wipe, error)
}

// Desk is task.Desk.
type Desk interface {
	Types() task.Table
	Place(ctx context.Context, r task.Request) (task.Placed, error)
	SetGroups(ctx context.Context, device string, groups []string) error
	SetSchedule(ctx context.Context, group string, rank int, s schedule.Schedule) error
	DeleteSchedule(ctx context.Context, group string) error
	Schedule(ctx context.Context, device string) (schedule.Schedule, error)
}

// Policies is policy.Engine.
type Policies interface {
	Document(ctx context.Context) (policy.Version, error)
	Version(ctx context.Context, number int64) (policy.Version, error)
	Apply(ctx context.Context, d policy.Document, base int64, by, comment string) (policy.Version, error)
	Plan(ctx context.Context, d policy.Document) (policy.Plan, error)
	Explain(ctx context.Context, device string) (policy.Explanation, error)
}

// Versions of policies, without their documents, and how far devices are behind
// the newest: store.Policies.
type Versions interface {
	Behind(ctx context.Context) (devices int, since time.Time, err error)
	Versions(ctx context.Context, before int64, limit int) ([]policy.Version, error)
}

// Inventories is inventory.Keeper.
type Inventories interface {
	Snapshot(ctx context.Context, device string) (inventory.Snapshot, error)
	History(ctx context.Context, device string, before int64, n int) ([]inventory.Change, error)
}

var (
	_ Devices     = (*store.SQL)(nil)
	_ Tasks       = (*store.SQL)(nil)
	_ Desk        = (*task.Desk)(nil)
	_ Policies    = (*policy.Engine)(nil)
	_ Versions    = (*store.Policies)(nil)
	_ Inventories = (*inventory.Keeper)(nil)
)

// ErrStranger is what Options.Certificate returns for a certificate that isn't a
// valid one of an administrator; the text says why.
var ErrStranger = errors.New("not an administrator")

// Options of New. All are needed, unless they say otherwise.
type Options struct {
	Access      *access.SQL
	Devices     Devices
	Tasks       Tasks
	Desk        Desk
	Policies    Policies
	Versions    Versions
	Inventories Inventories
	Fleet       Fleet

	// Certificate says whose a client's certificate is: that the chain, which the
	// client sent and nobody has looked at, leads to an administrator's certificate
	// of this installation that is valid now and wasn't revoked. ErrStranger; any
	// other error is one of the server. Nil: no certificate lets anybody in.
	Certificate func(ctx context.Context, chain []*x509.Certificate) (name string, err error)
	// Local says which user of this host sent a request, by the credentials of a
	// unix socket; false for requests from elsewhere. "root" is a server
	// administrator, others have the roles that were granted to local:USER. Nil:
	// none is local.
	Local func(r *http.Request) (user string, ok bool)

	// Placed is told of each task after its commit, so that devices can be woken.
	// Optional. It doesn't wait.
	Placed func(task string)
	// PolicyChanged is told after a document was applied. Optional. It doesn't
	// wait.
	PolicyChanged func()
	// Ready says what keeps the server from working. Optional.
	Ready func(ctx context.Context) []error

	// Version, Title and Database of the server, to describe it.
	Version, Title, Database string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}
