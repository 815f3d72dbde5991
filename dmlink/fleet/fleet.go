package fleet

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/gatewayd/database"
)

//go:embed migrations
var migrations embed.FS

// Tables of this package.
var Tables = database.Tables{Version: "gcm_version", Files: migrations}

// Options of a Fleet. Identity, Sign and SealKey are needed.
type Options struct {
	// Identity towards gateways.
	Identity push.Identity
	// Sign certificates for gateways.
	Sign push.Sign
	// Dial gateways; nil for the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// SealKey encrypts ticket keys in the database: 32 octets, the same for all
	// managers of one database.
	SealKey []byte
	// Feed of what enrollment does, see Follow; nil for none.
	Feed Feed
	// Quarantine is the group of devices that don't comply. With QuarantineNew
	// those that enroll don't, until somebody says so. Default "quarantine".
	Quarantine    string
	QuarantineNew bool
	// DefaultGroup of devices that enrollment has put into none.
	DefaultGroup string
	// Rest of an address before another device gets it. 24 hours.
	Rest time.Duration
	// A ticket key seals for TicketPeriod (1 hour) and opens for TicketLifetime
	// (24 hours) after that.
	TicketPeriod, TicketLifetime time.Duration
	// Retention of events. 30 days.
	Retention time.Duration
	// EventsOfGateway are kept at most, besides. 2,097,152.
	EventsOfGateway int
	// AdmitUnknown: gateways admit devices that this manager doesn't know, so it
	// believes what they say of them.
	AdmitUnknown bool
	// Trust is what gateways are told of roots of devices at first, until
	// administrators say something else; nil for nothing. Where gateways were there
	// before, it isn't.
	Trust *Trust
	// Check what gateways would be told, before it is committed; nil for nothing.
	Check func(Content) []error
	// Started is told of each device whose session began, and doesn't wait. May be
	// nil.
	Started func(device string)
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	Log *slog.Logger
}

func (o *Options) defaults() error {
	if o.Identity.Certificate == nil || o.Sign == nil {
		return fmt.Errorf("%w: a fleet needs an identity and who signs", ErrInvalid)
	}
	if o.Quarantine == "" {
		o.Quarantine = "quarantine"
	}
	for _, d := range []struct {
		d       *time.Duration
		without time.Duration
	}{
		{&o.Rest, 24 * time.Hour}, {&o.TicketPeriod, time.Hour}, {&o.TicketLifetime, 24 * time.Hour}, {&o.Retention, 30 * 24 * time.Hour},
	} {
		if *d.d == 0 {
			*d.d = d.without
		}
	}
	if o.EventsOfGateway == 0 {
		o.EventsOfGateway = 1 << 21
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Started == nil {
		o.Started = func(string) {}
	}
	if o.Check == nil {
		o.Check = func(Content) []error { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Fleet is one manager's. It is safe for concurrent use, and on PostgreSQL
// several managers may share a database.
type Fleet struct {
	Options
	db        *database.DB
	seal      *sealer
	documents *push.Documents
	push      *push.Manager
	ender     *ender

	// mu orders what is read after commits.
	mu sync.Mutex
	// read is what was read last of each row of gcm_section.
	read     map[string]position
	restored map[string]bool
	gateways map[string]push.Gateway
}

// position of a section.
type position struct {
	gcm.Version
	mark int64
}

// New brings the tables up to date and reads what is in them; Run does the rest.
// The database stays the caller's.
func New(ctx context.Context, db *database.DB, o Options) (*Fleet, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	seal, err := newSealer(o.SealKey)
	if err != nil {
		return nil, err
	}
	if err := Tables.Migrate(ctx, db); err != nil {
		return nil, err
	}
	f := &Fleet{
		Options: o, db: db, seal: seal,
		read: map[string]position{}, restored: map[string]bool{}, gateways: map[string]push.Gateway{},
	}
	f.ender = newEnder(f)
	if err := f.firstTrust(ctx); err != nil {
		return nil, fmt.Errorf("the first roots of devices: %w", err)
	}
	var sets []*gcm.Set
	for _, section := range gcm.Sections {
		set, at, err := f.load(ctx, section)
		if err != nil {
			return nil, fmt.Errorf("read the section %s: %w", section, err)
		}
		sets = append(sets, set)
		f.read[string(section)] = at
	}
	if f.documents, err = push.NewDocuments(sets...); err != nil {
		return nil, err
	}
	f.push, err = push.New(push.Config{
		Documents: f.documents, Journal: (*journal)(f), Identity: o.Identity, Known: f.known,
		Dial: o.Dial, Connected: f.connected, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

const (
	// followTime is how long another manager's commit may go unseen.
	followTime = 200 * time.Millisecond
	// keepTime is how often is looked whether a key or an event is due, certifyTime
	// whether a gateway's certificate is.
	keepTime    = time.Minute
	certifyTime = 10 * time.Second
)

// Run reads what other managers commit, keeps gateways connected and what is due
// done, until ctx ends. It is called once. Following enrollment is the caller's.
func (f *Fleet) Run(ctx context.Context) {
	defer f.push.Close()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { f.ender.run(ctx) })
	all.Go(func() {
		f.every(ctx, followTime, "read what was committed", f.follow)
	})
	all.Go(func() { f.every(ctx, certifyTime, "renew certificates of gateways", f.keepCertificates) })
	f.every(ctx, keepTime, "keep keys and events", f.keep)
}

// every so often do something; trouble is told once while it is the same.
func (f *Fleet) every(ctx context.Context, pause time.Duration, what string, do func(context.Context) error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	told := ""
	for {
		switch err := do(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			f.Log.Error("manager couldn't do what is due", slog.String("work", what), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keep what has a time at which it is due.
func (f *Fleet) keep(ctx context.Context) error {
	return errors.Join(f.keepTickets(ctx), f.keepEvents(ctx), f.keepRevocations(ctx))
}

// Documents as they were committed last.
func (f *Fleet) Documents() *push.Documents { return f.documents }
