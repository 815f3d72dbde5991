package syncml

// Message is one SyncML message: what travels in one HTTP request or response.
type Message struct {
	Version Version
	Header  Header
	Body    []Command
	// Final: it is the last of its package.
	Final bool
}

// Header is SyncHdr. VerDTD and VerProto are empty in messages that we make:
// Version says them.
type Header struct {
	VerDTD, VerProto string
	// SessionID and MsgID are tokens that the other side may have chosen freely.
	SessionID, MsgID string
	Target, Source   Location
	// RespURI is where the answer has to be sent to.
	RespURI string
	NoResp  bool
	Cred    *Cred
	Meta    Meta
}

// Location is the content of Target or Source. In a header the name is that of
// the user, for authentication.
type Location struct {
	URI, Name string
}

// Cred carries credentials: Type is the scheme, such as AuthMD5.
type Cred struct {
	Meta Meta
	Data []byte
}

// Chal asks for credentials; Meta has scheme, format and the next nonce.
type Chal struct {
	Meta Meta
}

// Meta is what stands in a Meta element. Zero fields are absent. What it may
// carry for data synchronization (Anchor, Mem) is skipped.
type Meta struct {
	// Format of data: chr, int, bool, node, xml, bin, b64, null, date, time, float.
	Format string
	// Type: a media type, or the scheme of credentials.
	Type string
	// Mark: the importance of a generic alert.
	Mark string
	// Size of a whole object, in octets, in its first chunk.
	Size int64
	// NextNonce, decoded.
	NextNonce []byte
	// MaxMsgSize and MaxObjSize, in octets: what the sender can take.
	MaxMsgSize, MaxObjSize int64
}

func (m Meta) isZero() bool {
	return m.Format == "" && m.Type == "" && m.Mark == "" && m.Size == 0 && len(m.NextNonce) == 0 && m.MaxMsgSize == 0 && m.MaxObjSize == 0
}

// Item of a command.
type Item struct {
	Target, Source Location
	Meta           Meta
	// Data as it travels: text of any format, base64 for b64, octets for bin.
	Data []byte
	// Markup: Data is XML that stood, or shall stand, unescaped.
	Markup bool
	// HasData tells an empty Data element from none.
	HasData bool
	// MoreData: the object goes on in the next message.
	MoreData bool
}

// Command is one of [Alert], [Op], [Group], [Status], [Results], [Unknown], by
// pointer.
type Command interface {
	// Name of the element.
	Name() string
	// ID is the CmdID, unique in its message.
	ID() string
}

// Alert tells the recipient of an event.
type Alert struct {
	CmdID  string
	NoResp bool
	Cred   *Cred
	// Code such as AlertClientInitiated; zero if there was no Data.
	Code int
	// Correlator names the command whose asynchronous end a generic alert tells.
	Correlator string
	Items      []Item
}

// Verb of an Op.
type Verb string

const (
	Add     Verb = "Add"
	Copy    Verb = "Copy"
	Delete  Verb = "Delete"
	Exec    Verb = "Exec"
	Get     Verb = "Get"
	Replace Verb = "Replace"
)

// Op is a command on nodes of the management tree.
type Op struct {
	Verb       Verb
	CmdID      string
	NoResp     bool
	Cred       *Cred
	Meta       Meta
	Correlator string
	Items      []Item
}

// Group is Atomic, all or nothing, or Sequence, in this order.
type Group struct {
	Atomic   bool
	CmdID    string
	NoResp   bool
	Meta     Meta
	Commands []Command
}

// Status answers a command or, with CmdRef 0, a header.
type Status struct {
	CmdID, MsgRef, CmdRef string
	// Cmd is the name of the command that is answered.
	Cmd                   string
	TargetRefs, SourceRef []string
	Cred                  *Cred
	Chal                  *Chal
	// Code such as StatusOK.
	Code  int
	Items []Item
}

// Results of a Get. A missing MsgRef means the message before.
type Results struct {
	CmdID, MsgRef, CmdRef string
	Meta                  Meta
	TargetRef, SourceRef  string
	Items                 []Item
}

// Unknown is an element that is no command of device management. It is
// answered with StatusBadRequest or StatusNotImplemented, not executed.
type Unknown struct {
	Element string
	CmdID   string
}

func (c *Alert) Name() string { return "Alert" }
func (c *Op) Name() string    { return string(c.Verb) }
func (c *Group) Name() string {
	if c.Atomic {
		return "Atomic"
	}
	return "Sequence"
}
func (c *Status) Name() string  { return "Status" }
func (c *Results) Name() string { return "Results" }
func (c *Unknown) Name() string { return c.Element }

func (c *Alert) ID() string   { return c.CmdID }
func (c *Op) ID() string      { return c.CmdID }
func (c *Group) ID() string   { return c.CmdID }
func (c *Status) ID() string  { return c.CmdID }
func (c *Results) ID() string { return c.CmdID }
func (c *Unknown) ID() string { return c.CmdID }
