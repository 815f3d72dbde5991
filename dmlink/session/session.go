package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Config that all sessions share. Zero numbers mean the default.
type Config struct {
	Queue    Queue
	Accounts Accounts
	// Rand makes nonces.
	Rand io.Reader
	// Server is our URI, the Source of our messages, unless the device addresses
	// us by another.
	Server string
	// MaxMsgSize and MaxObjSize are what we take, in octets: 512 KiB, 1 MiB. The
	// results of one package may be four times MaxObjSize.
	MaxMsgSize, MaxObjSize int
	// DeviceMsgSize is what a device takes that doesn't say: 64 KiB.
	DeviceMsgSize int
	// MaxMessages of a session: 256. The next one is answered with an abort.
	MaxMessages int
	// Batch is how many tasks go into one message: 64.
	Batch int
	// MaxTasks of a session, the others come in the next one: 1,024.
	MaxTasks int
}

func (c Config) withDefaults() Config {
	for _, f := range []struct {
		field   *int
		standby int
	}{
		{&c.MaxMsgSize, 512 << 10}, {&c.MaxObjSize, 1 << 20}, {&c.DeviceMsgSize, 64 << 10},
		{&c.MaxMessages, 256}, {&c.Batch, 64}, {&c.MaxTasks, 1024},
	} {
		if *f.field <= 0 {
			*f.field = f.standby
		}
	}
	return c
}

// Smallest and largest MaxMsgSize of a device that we go along with.
const (
	minMsgSize = 1 << 10
	maxMsgSize = 1 << 20
)

// Bounds on what we may owe a device: statuses, and octets of memory for them.
const (
	maxBacklog = 1 << 12
	maxOwed    = 2 << 20
)

// maxInfos is how often a session may tell a new DevInfo, each of which is a
// write; once is what devices do.
const maxInfos = 4

// Input is one message of the device.
type Input struct {
	Message *syncml.Message
	// Octets that Message was read from, and how.
	Octets []byte
	Syntax syncml.Syntax
	// MAC is the header x-syncml-hmac, empty if there was none.
	MAC string
	// RespURI is where the device shall send its next message; empty to leave
	// that as it is.
	RespURI string
}

// Output answers an Input.
type Output struct {
	Octets []byte
	// MAC is the header x-syncml-hmac, empty for none.
	MAC string
	// Done: the session is over when these octets are delivered.
	Done bool
	// Once: there is a once-only command in it, so it may leave only once.
	Once bool
}

// Session with one device. One goroutine at a time may use it.
type Session struct {
	cfg     Config
	device  string
	account Account
	id      string
	version syncml.Version
	source  string // how the device addresses us
	target  string // how the device calls itself
	started bool
	over    bool

	// The last message and its answer, for a device that asks again.
	lastMsgID  string
	lastDigest [sha256.Size]byte
	last       Output
	messages   int

	auth    authState
	devMsg  int // what the device takes
	devObj  int64
	out     outgoing
	in      incoming
	flights []*flight
	// resultOctets that flights hold.
	resultOctets int
	// offered are the IDs of tasks that this session has seen.
	offered []string
	seen    map[string]bool
	// pending are tasks that were fetched and not sent yet; those whose query
	// said so come first.
	pending []Task
	drained bool // the queue had no more
	// backlog are statuses that found no room in a message, owed their cost in
	// octets.
	backlog []syncml.Command
	owed    int
	// alerts that the device has told, and how often it told a new DevInfo.
	alerts, infos int
	// headerAnswered: the message that is being read had a status of our header.
	headerAnswered bool
	report         Report
}

// New session of a device. The account becomes the session's own; Close erases
// it. With the scheme Certificate the caller has authenticated the device.
func New(cfg Config, device string, account Account) *Session {
	cfg = cfg.withDefaults()
	return &Session{
		cfg: cfg, device: device, account: account, devMsg: cfg.DeviceMsgSize, seen: map[string]bool{}, drained: account.Idle,
		auth: authState{accepted: account.Scheme == Certificate, nonce: account.Nonce},
	}
}

// Device whose session it is.
func (s *Session) Device() string { return s.device }

// Authenticated reports whether the device has proven who it is.
func (s *Session) Authenticated() bool { return s.auth.accepted }

// Close erases the secrets.
func (s *Session) Close() {
	s.over = true
	s.account.Erase()
}

// Handle answers one message. After an error the session is of no use any more,
// and nothing may be sent.
//
// A message that comes again gets the same answer again, unless that has a
// once-only command in it: then it is an error like any other.
func (s *Session) Handle(ctx context.Context, now time.Time, in Input) (Output, error) {
	h := &in.Message.Header
	digest := sha256.Sum256(in.Octets)
	if s.started && h.MsgID == s.lastMsgID && digest == s.lastDigest && !s.last.Once {
		return s.last, nil // it was lost
	}
	switch {
	case s.over:
		return Output{}, ErrOver
	case s.started && h.SessionID != s.id:
		return Output{}, fmt.Errorf("%w: SessionID %.20q in session %.20q", ErrProtocol, h.SessionID, s.id)
	case s.started && h.MsgID == s.lastMsgID:
		return Output{}, fmt.Errorf("%w: another message with MsgID %.20q", ErrProtocol, h.MsgID)
	}
	s.started, s.id = true, h.SessionID
	s.version, s.target = in.Message.Version, h.Source.URI
	if s.source = h.Target.URI; s.source == "" {
		s.source = s.cfg.Server
	}
	s.lastMsgID, s.lastDigest = h.MsgID, digest
	s.messages++
	if n := h.Meta.MaxMsgSize; n > 0 {
		s.devMsg = int(min(max(n, minMsgSize), maxMsgSize))
	}
	if n := h.Meta.MaxObjSize; n > 0 {
		s.devObj = n
	}
	out, err := s.answer(ctx, now, in)
	if err != nil {
		s.Close()
		return Output{}, err
	}
	s.last, s.over = out, out.Done
	return out, nil
}

func (s *Session) answer(ctx context.Context, now time.Time, in Input) (Output, error) {
	r := &reply{s: s, in: in, room: s.devMsg}
	if code := versionCode(&in.Message.Header); code != 0 {
		r.header(code, nil)
		return r.finish(true)
	}
	code, chal, err := s.authenticate(ctx, in)
	if err != nil {
		return Output{}, err
	}
	r.header(code, chal)
	if !s.auth.accepted {
		// Nothing of it is looked at. Without a challenge that was the last try.
		return r.finish(chal == nil)
	}
	s.report = Report{At: now}
	verdict, err := s.take(ctx, in.Message)
	if err != nil {
		return Output{}, err
	}
	if len(s.backlog) > maxBacklog || s.owed > maxOwed {
		return Output{}, fmt.Errorf("%w: %d commands wait for a status, %d octets", ErrProtocol, len(s.backlog), s.owed)
	}
	if s.resultOctets > 4*s.cfg.MaxObjSize {
		return Output{}, fmt.Errorf("%w: more than %d octets of results in one package", ErrProtocol, 4*s.cfg.MaxObjSize)
	}
	s.knownInfo()
	if !s.report.empty() {
		if err := s.cfg.Queue.Record(ctx, s.device, s.report); err != nil {
			return Output{}, fmt.Errorf("recording what %s said: %w", s.device, err)
		}
		s.report = Report{}
	}
	if verdict == stop || s.messages >= s.cfg.MaxMessages {
		r.flush()
		if verdict != stop {
			r.command(&syncml.Alert{Code: syncml.AlertSessionAbort})
		}
		return r.finish(true)
	}
	return r.fill(ctx, verdict)
}

// knownInfo takes from the report what the device has told before.
func (s *Session) knownInfo() {
	if len(s.report.DevInfo) == 0 {
		return
	}
	h := sha256.New()
	for _, v := range s.report.DevInfo {
		fmt.Fprintf(h, "%q %q %q %q\n", v.URI, v.Format, v.Type, v.Data)
	}
	digest := h.Sum(nil)
	if s.infos++; s.infos > maxInfos || bytes.Equal(digest, s.account.InfoDigest) {
		s.report.DevInfo = nil
		return
	}
	s.report.InfoDigest, s.account.InfoDigest = digest, digest
}

// versionCode is the status for a version that we don't speak, otherwise 0.
func versionCode(h *syncml.Header) int {
	switch h.VerDTD {
	case "1.1", "1.2":
	default:
		return 505
	}
	switch h.VerProto {
	case "DM/1.1", "DM/1.2":
		return 0
	}
	return 513
}

// reply is a message in the making.
type reply struct {
	s    *Session
	in   Input
	room int // octets that the device still takes
	// alone is what a command may take that has the message for itself.
	alone int
	body  []syncml.Command
	next  int // CmdID
	// more: our package goes on in another message, or the device's does.
	more bool
	// sent is how many commands the device has to answer; once: one of them is
	// once-only.
	sent int
	once bool
}

// header begins the message with the status of the device's header. Statuses
// count against the room as all else.
func (r *reply) header(code int, chal *syncml.Chal) {
	h := r.element()
	r.room -= r.in.Syntax.Frame(r.s.version) + r.in.Syntax.Size(h)
	r.command(&syncml.Status{
		MsgRef: r.in.Message.Header.MsgID, CmdRef: "0", Cmd: "SyncHdr", Code: code, Chal: chal,
		TargetRefs: nonEmpty(r.in.Message.Header.Target.URI), SourceRef: nonEmpty(r.in.Message.Header.Source.URI),
	})
	r.alone = r.room
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// msgID of our answer.
func (s *Session) msgID() string { return strconv.Itoa(s.messages) }

func (r *reply) message() *syncml.Message {
	s := r.s
	m := &syncml.Message{
		Version: s.version,
		Header: syncml.Header{
			SessionID: s.id, MsgID: s.msgID(), RespURI: r.in.RespURI,
			Target: syncml.Location{URI: s.target}, Source: syncml.Location{URI: s.source},
			Meta: syncml.Meta{MaxMsgSize: int64(s.cfg.MaxMsgSize), MaxObjSize: int64(s.cfg.MaxObjSize)},
		},
		Body:  r.body,
		Final: !r.more,
	}
	m.Header.Cred = s.serverCred()
	if m.Header.Cred != nil || s.account.ServerPassword != nil {
		m.Header.Source.Name = s.account.ServerName
	}
	return m
}

// element is the frame of the message, for its size: a header, an empty body
// with Final.
func (r *reply) element() *syncml.Element {
	m := r.message()
	m.Body, m.Final = nil, true
	return &syncml.Element{Name: "SyncML", Children: m.Document().Root.Children}
}

// command appends c, numbered.
func (r *reply) command(c syncml.Command) {
	number(c, &r.next)
	r.body = append(r.body, c)
	r.room -= r.in.Syntax.Size(syncml.CommandElement(c))
}

// number gives c, and what lies in it, the next CmdIDs.
func number(c syncml.Command, next *int) {
	*next++
	id := strconv.Itoa(*next)
	switch c := c.(type) {
	case *syncml.Alert:
		c.CmdID = id
	case *syncml.Op:
		c.CmdID = id
	case *syncml.Status:
		c.CmdID = id
	case *syncml.Results:
		c.CmdID = id
	case *syncml.Group:
		c.CmdID = id
		for _, inner := range c.Commands {
			number(inner, next)
		}
	}
}

// finish writes the message. It is the last one if over.
func (r *reply) finish(over bool) (Output, error) {
	octets, err := r.in.Syntax.Append(nil, r.message().Document())
	if err != nil {
		return Output{}, fmt.Errorf("writing the answer to %s: %w", r.s.device, err)
	}
	return Output{Octets: octets, MAC: r.s.serverMAC(octets), Done: over, Once: r.once}, nil
}
