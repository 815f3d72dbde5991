package session

import (
	"context"
	"errors"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Queue is what the session needs of the store: the tasks of devices, in order.
// Every method may be called by several servers at once. An error ends the
// session without an answer to the device.
type Queue interface {
	// Next returns up to n tasks that wait for the device, most urgent first,
	// without those named in except. A task that was claimed and has no outcome
	// waits as well. It changes nothing.
	Next(ctx context.Context, device string, except []string, n int) ([]Task, error)
	// Claim records that these tasks are about to be sent, and is durable when it
	// returns. It grants a task only if it still waits and was claimed exactly
	// Attempt times so far: one compare and set for each. granted is as long as
	// claims.
	Claim(ctx context.Context, device string, claims []Claim) (granted []bool, err error)
	// Record takes what the device said in one message, durably and in one
	// transaction. It may get the same outcome twice.
	Record(ctx context.Context, device string, r Report) error
}

// Semantics of a command: what may happen if nobody knows whether it was
// executed.
type Semantics uint8

const (
	// Idempotent commands are sent again.
	Idempotent Semantics = iota
	// Queryable ones are sent again if their Query says that it is necessary.
	// Without a Query they are once-only.
	Queryable
	// OnceOnly ones are never sent twice.
	OnceOnly
)

// Task is one thing to have a device do.
type Task struct {
	// ID is the store's name for it.
	ID        string
	Semantics Semantics
	// Attempt is how often it was claimed before; zero for a new one.
	Attempt int
	// Command is an *syncml.Op, *syncml.Group or *syncml.Alert (for the user:
	// 1100-1104) without CmdIDs, which the session fills in on a copy. Data of
	// format bin is sent as b64 where the syntax is XML.
	Command syncml.Command
	Query   *Query
}

// Query finds out whether a command took effect: a Get of URI.
type Query struct {
	URI string
	// Want is the value that the command leaves; nil means any.
	Want []byte
	// Gone: the command leaves no such node.
	Gone bool
}

// Claim of a task.
type Claim struct {
	Task    string
	Attempt int
}

// State is how a task ended in this session. A task without an outcome stays in
// the queue.
type State uint8

const (
	// Answered by the device with Code; where we refused the results of a Get,
	// Code is our status for them: 416 larger than MaxObjSize, 424 another size
	// than promised, 412 cut off.
	Answered State = iota
	// Confirmed by its Query: an earlier session had it done.
	Confirmed
	// Unknown: a once-only command was sent and nobody knows what became of it.
	Unknown
	// Undeliverable and never sent; Code is the status that says why: 413 more
	// than a message or object may have, 415 data that the syntax can't carry.
	Undeliverable
)

// Outcome of a task.
type Outcome struct {
	Task  string
	State State
	Code  int
	// Parts are the commands of a group, in order, those in inner groups after
	// their group.
	Parts []Part
	// Results of Get commands, and what the user answered to an alert.
	Results []Value
}

// Part of a group.
type Part struct {
	Name string
	// URI of its first item.
	URI string
	// Code is zero if the device gave none.
	Code int
}

// Value of a node, as the device sent it.
type Value struct {
	URI          string
	Format, Type string
	Data         []byte
}

// Alert that a device sent, other than those that steer a session.
type Alert struct {
	Code       int
	Correlator string
	// Items: for a generic alert, Source is who tells it and Meta.Type what
	// (OMA-TS-DM_Protocol-V1_2_1 section 8.7).
	Items []syncml.Item
}

// Report is what the queue is told of one message, all of it or nothing.
type Report struct {
	At       time.Time
	Outcomes []Outcome
	// DevInfo nodes that the device replaced, if they aren't those of the Account's
	// InfoDigest, and their digest, to be kept.
	DevInfo    []Value
	InfoDigest []byte
	Alerts     []Alert
}

func (r *Report) empty() bool {
	return len(r.Outcomes) == 0 && len(r.DevInfo) == 0 && len(r.Alerts) == 0
}

// Accounts has credentials.
type Accounts interface {
	// Account of a device. The caller erases the secrets. ErrNoAccount if there
	// is none, or it may not begin a session.
	Account(ctx context.Context, device string) (Account, error)
	// UseNonce replaces the nonce that the device uses next, if it still is used:
	// otherwise ErrNonceUsed, and the device has to be asked again. Durable.
	UseNonce(ctx context.Context, device string, used, next []byte) error
	// ServerNonce is what we use next toward the device. Durable.
	ServerNonce(ctx context.Context, device string, next []byte) error
}

// Scheme of authentication.
type Scheme uint8

const (
	// Certificate: the transport has authenticated the device.
	Certificate Scheme = iota
	// MD5 digest in Cred, once a session.
	MD5
	// HMAC over every message, in the header x-syncml-hmac.
	HMAC
)

// Account of a device.
type Account struct {
	Scheme Scheme
	// Name and Password of the device; Nonce is what it was told to use next.
	// Not used with Certificate.
	Name            string
	Password, Nonce []byte
	// ServerName and ServerPassword are ours, if the device asks for them.
	ServerName                  string
	ServerPassword, ServerNonce []byte
	// Idle: no task waited when the account was read, so that the queue isn't
	// asked; a task that came since waits for the next session. False is always
	// right.
	Idle bool
	// InfoDigest is that of the last Report with DevInfo; nil if there was none.
	// A device that tells the same again isn't reported. So a check-in with
	// nothing to do costs the account and no more.
	InfoDigest []byte
}

// Erase clears the secrets.
func (a *Account) Erase() {
	clear(a.Password)
	clear(a.ServerPassword)
}

var (
	// ErrNoAccount: the device is unknown, or may not have a session.
	ErrNoAccount = errors.New("no account")
	// ErrNonceUsed: another session has used this nonce.
	ErrNonceUsed = errors.New("nonce was used")
	// ErrProtocol: a message that can't be answered within the protocol.
	ErrProtocol = errors.New("protocol error")
	// ErrOver: the session has ended.
	ErrOver = errors.New("session is over")
)
