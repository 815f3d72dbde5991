package session

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// RecordEvent says what a Record is about.
type RecordEvent string

// Events of records. Each session has one start and one stop.
const (
	RecordStart   RecordEvent = "start"
	RecordInterim RecordEvent = "interim"
	RecordStop    RecordEvent = "stop"
)

// Record of a session that came up, for those who keep account. Figures are
// those of the whole session so far, over all its Child SAs.
type Record struct {
	Time    time.Time   `json:"time"`
	Event   RecordEvent `json:"event"`
	Session string      `json:"session"` // Info.ID, 16 hexadecimal digits
	Device  string      `json:"device"`
	Group   string      `json:"group,omitempty"`

	VirtualIPs []netip.Addr `json:"virtual_ips"`
	// Remote is the outer address and port of the device.
	Remote netip.AddrPort `json:"remote"`
	// IKE and ESP are the algorithms, those of the newest Child SA there was.
	IKE  string `json:"ike"`
	ESP  string `json:"esp,omitempty"`
	Auth string `json:"auth"`
	// Resumed by a ticket, without certificates.
	Resumed bool   `json:"resumed,omitempty"`
	Client  string `json:"client,omitempty"`

	Established time.Time `json:"established"`
	Traffic

	// Reason and Detail of the end.
	Reason ike.CloseReason `json:"reason,omitempty"`
	Detail string          `json:"detail,omitempty"`
}

func (s *session) record(now time.Time, event RecordEvent) Record {
	c, n := s.card, s.card.names.Value()
	return Record{
		Time: now, Event: event, Session: fmt.Sprintf("%016x", uint64(s.id)), Device: c.device, Group: n.group,
		VirtualIPs: slices.Clone(c.virtualIPs), Remote: c.remote,
		IKE: n.ike, ESP: n.esp, Auth: n.auth, Resumed: n.resumed, Client: n.client,
		Established: c.established, Traffic: s.account.read().Traffic,
	}
}

// recordBacklog is how many records may wait for their writer.
const recordBacklog = 1 << 16

// recorder hands records to their writer, on a goroutine of its own. While that
// is further behind than recordBacklog, starts and interim records are lost and
// counted. Stops never are, they say it all: what waits is bounded by the
// sessions that end meanwhile, which is what handshakes allow.
type recorder struct {
	write   func(Record) // nil: nobody wants them
	notices func(Notice) // nil: likewise
	stats   *stats
	queue   *queue[entry]
}

// entry is a record, or a notice.
type entry struct {
	record Record
	notice *Notice
}

func (r *recorder) put(record Record) {
	switch {
	case r.write == nil:
	case record.Event != RecordStop && r.queue.len() >= recordBacklog:
		r.stats.drop(ReasonRecordLost)
	default:
		r.queue.put(entry{record: record})
	}
}

// run ends with quit, after all that was put before.
func (r *recorder) run(quit <-chan struct{}, wg *sync.WaitGroup) {
	wg.Go(func() {
		var entries []entry
		for stop := false; !stop; {
			select {
			case <-quit:
				stop = true
			case <-r.queue.wake:
			}
			entries = r.queue.drain(entries)
			for _, e := range entries {
				if e.notice != nil {
					r.notices(*e.notice)
				} else {
					r.write(e.record)
				}
			}
		}
	})
}
