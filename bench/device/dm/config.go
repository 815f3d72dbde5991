package dm

import (
	"errors"
	"net/http"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

var (
	// ErrVanished: the device went away as Faults told it to.
	ErrVanished = errors.New("vanished")
	// ErrCrashed: it executed a command and crashed before it could say so.
	ErrCrashed = errors.New("crashed")
	// ErrStatus: the server answered with another status of HTTP than 200.
	ErrStatus = errors.New("unexpected status of HTTP")
	// ErrAuthentication: the server didn't believe the device, or the device
	// not the server.
	ErrAuthentication = errors.New("authentication failed")
	// ErrServer: the server did what it may not.
	ErrServer = errors.New("server breaks the protocol")
)

// Account of the device with its server. Nonces change with each session.
type Account struct {
	Scheme          session.Scheme
	Name            string
	Password, Nonce []byte
	// ServerName and ServerPassword: if set, the server has to authenticate.
	ServerName                  string
	ServerPassword, ServerNonce []byte
}

// Config of a device's client.
type Config struct {
	// URL of the server.
	URL    string
	Client *http.Client
	// Device is the Source of our messages and ./DevInfo/DevId.
	Device string
	// Server identifier, for rights in the tree.
	Server  string
	Syntax  syncml.Syntax
	Version syncml.Version
	// ContentType, if not that of DM and the syntax.
	ContentType string
	Tree        *tree.Tree
	Account     *Account
	// MaxMsgSize and MaxObjSize that the server is told; zero says nothing.
	MaxMsgSize, MaxObjSize int
	// Alerts of the first package beside that of the session.
	Alerts []*syncml.Alert
	// FirstSession is the SessionID of the first session, 1 if zero.
	FirstSession int
	// ServerInitiated: answer to a notification, Alert 1200.
	ServerInitiated bool
	// Answers to user interaction by alert code; without one 200.
	Answers map[int]Answer
	// Journal of what is executed; nil for none.
	Journal *Journal
	Faults  Faults
	// Now is the time that nodes get; nil means time.Now.
	Now func() time.Time
}

// Answer of the user.
type Answer struct {
	Code int
	Data string
}

// Faults that a device has.
type Faults struct {
	// Fail answers commands on these URIs with a status and does nothing.
	Fail map[string]int
	// Lie about commands on these URIs: says 200 and does nothing.
	Lie map[string]bool
	// Repeat every message, as a device does whose answer was lost, and compare
	// the two answers.
	Repeat bool
	// VanishAfter so many messages of the server, which aren't looked at any
	// more; zero means never.
	VanishAfter int
	// CrashAfter an Exec of this URI, before the status is sent.
	CrashAfter string
	// ShortObject promises one octet more than a large object has.
	ShortObject bool
	// AbortAfter so many messages of the server: the next one of ours is an
	// Alert 1223.
	AbortAfter int
}

// Summary of a session.
type Summary struct {
	// Messages that the server sent, and Commands in them, those in groups too.
	Messages, Commands int
	// Largest message of the server, in octets.
	Largest int
	// Aborted by the server.
	Aborted bool
}
