package api

import "time"

// None comes in where nothing does.
type None struct{}

// Done goes out where there is nothing to say.
type Done struct {
	Changed bool `json:"changed" doc:"False if it was so before."`
}

// Paging is what lists take.
type Paging struct {
	After string `query:"after" maxLength:"400" doc:"The next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

// MaxPage is the highest limit of a list.
const MaxPage = 500

// Page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"What to give as after; missing on the last page."`
}

// Server describes itself.
type Server struct {
	Version  string    `json:"version"`
	Instance string    `json:"instance" doc:"The installation that it manages; roles hold in it and nowhere else."`
	Title    string    `json:"title,omitempty"`
	Now      time.Time `json:"now"`
	Started  time.Time `json:"started"`
	Database string    `json:"database" enum:"sqlite,postgres"`
	Ready    bool      `json:"ready"`
	Trouble  []string  `json:"trouble,omitempty" doc:"What keeps it from being ready."`
}

// Self is who asks.
type Self struct {
	Subject  string   `json:"subject" doc:"certificate:NAME, token:NAME or local:USER"`
	Instance string   `json:"instance"`
	Roles    []string `json:"roles"`
	May      []string `json:"may" doc:"Operations."`
}

// Permission is a row of the table of operations.
type Permission struct {
	Operation string   `json:"operation"`
	Method    string   `json:"method"`
	Path      string   `json:"path"`
	Roles     []string `json:"roles" doc:"Who has one of these may do it."`
	Recorded  string   `json:"recorded" enum:"refusals,looks,changes" doc:"What the audit log has of it."`
	Summary   string   `json:"summary"`
}

func (r Recorded) String() string {
	switch r {
	case Looks:
		return "looks"
	case Changes:
		return "changes"
	case Refusals:
	}
	return "refusals"
}
