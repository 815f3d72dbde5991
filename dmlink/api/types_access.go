package api

import (
	"fmt"
	"strings"
	"time"
)

// Grant of a role.
type Grant struct {
	Subject string    `json:"subject"`
	Role    string    `json:"role"`
	Granted time.Time `json:"granted"`
	By      string    `json:"by"`
}

// ListGrants of everybody, or of one.
type ListGrants struct {
	Paging
	Subject string `query:"subject" maxLength:"120" doc:"certificate:NAME or local:USER"`
}

// GrantPath names a grant.
type GrantPath struct {
	Subject string `path:"subject" maxLength:"120" doc:"certificate:NAME or local:USER; a token has those that it was made with."`
	Role    string `path:"role" enum:"server,device,security,helpdesk,auditor"`
}

// Change implements Changer.
func (g *GrantPath) Change() (object, detail string) { return g.Subject, "role " + g.Role }

// PutGrant gives a role.
type PutGrant struct{ GrantPath }

// TakeGrant takes a role.
type TakeGrant struct{ GrantPath }

// Token as it is kept, without its secret.
type Token struct {
	Name    string    `json:"name"`
	ID      string    `json:"id" doc:"Public part of the token, after its prefix."`
	Roles   []string  `json:"roles" doc:"Those that it has at this moment: no more than its maker can."`
	Given   []string  `json:"given" doc:"Those that it was made with."`
	State   string    `json:"state" enum:"valid,powerless,expired,revoked" doc:"powerless: its maker lost all that it had from him, so that it lets nobody in."`
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero" required:"false" doc:"Last use, to the minute."`
	Revoked time.Time `json:"revoked,omitzero" required:"false"`
}

// NewToken asks for one.
type NewToken struct {
	Name         string   `json:"name" minLength:"1" maxLength:"100" doc:"What it is for; each name is used once."`
	Roles        []string `json:"roles" minItems:"1" maxItems:"5" doc:"server, device, security, helpdesk, auditor"`
	ValidSeconds int64    `json:"valid_seconds,omitempty" minimum:"0" maximum:"34560000" doc:"0: 90 days. At most 400 days."`
}

// CreateToken comes in.
type CreateToken struct{ Body NewToken }

// Change implements Changer.
func (c *CreateToken) Change() (object, detail string) {
	return "token:" + c.Body.Name, fmt.Sprintf("roles %s for %v", strings.Join(c.Body.Roles, ", "), time.Duration(c.Body.ValidSeconds)*time.Second)
}

// CreatedToken is told once.
type CreatedToken struct {
	Token  Token  `json:"token"`
	Secret string `json:"secret" doc:"For the header Authorization: Bearer. Shown this once."`
}

// RevokeToken comes in.
type RevokeToken struct {
	Name string `path:"name" maxLength:"100"`
}

// Change implements Changer.
func (r *RevokeToken) Change() (object, detail string) { return "token:" + r.Name, "" }

// Entry of the audit log.
type Entry struct {
	Number    int64     `json:"number"`
	At        time.Time `json:"at"`
	Subject   string    `json:"subject,omitempty" doc:"Empty for strangers."`
	Source    string    `json:"source,omitempty" doc:"Network address; empty for the server's own host."`
	Operation string    `json:"operation"`
	Phase     string    `json:"phase" enum:"asked,done,failed,refused,looked" doc:"An asked without done or failed was cut off: what became of it isn't known."`
	Of        int64     `json:"of,omitempty" doc:"Number of the asked that this is the end of."`
	Object    string    `json:"object,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Status    int       `json:"status,omitempty" doc:"HTTP status of the answer."`
	Hash      string    `json:"hash" doc:"HMAC-SHA-256 of this entry and of the hash before, hexadecimal."`
}

// ListAudit filters the log.
type ListAudit struct {
	Paging
	Oldest    bool      `query:"oldest" doc:"Begin with the oldest entry; otherwise with the newest."`
	Subject   string    `query:"subject" maxLength:"120"`
	Operation string    `query:"operation" maxLength:"64"`
	Object    string    `query:"object" maxLength:"300"`
	Phase     string    `query:"phase" enum:"asked,done,failed,refused,looked"`
	Since     time.Time `query:"since" doc:"From this moment on (RFC 3339)."`
	Until     time.Time `query:"until" doc:"Before this moment (RFC 3339)."`
}

// VerifyAudit comes in.
type VerifyAudit struct {
	Number int64  `query:"number" minimum:"0" doc:"An entry that somebody noted; 0 for none."`
	Hash   string `query:"hash" maxLength:"64" pattern:"^[0-9a-f]*$" doc:"The hash that it had."`
}

// Verified log.
type Verified struct {
	Entries int64  `json:"entries"`
	Intact  bool   `json:"intact"`
	Trouble string `json:"trouble,omitempty" doc:"Where the chain is broken, and how."`
	Number  int64  `json:"number" doc:"The newest entry: note it with its hash, elsewhere, and give both next time."`
	Hash    string `json:"hash"`
}
