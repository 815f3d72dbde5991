package session

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// NoticeKind says what a Notice is about.
type NoticeKind string

// Kinds of notices.
const (
	// NoticeMoved: a session has another outer address.
	NoticeMoved NoticeKind = "moved"
	// NoticeAssigned: a device got an address that it didn't have before.
	NoticeAssigned NoticeKind = "assigned"
	// NoticeRefused: the policy refused a device, or somebody with its
	// certificate; one that was admitted before, too.
	NoticeRefused NoticeKind = "refused"
)

// Notice of what somebody may want to know beside the records of sessions.
type Notice struct {
	Time time.Time
	Kind NoticeKind
	// Device is empty where a refusal is of nobody that is known.
	Device string
	// Session, 16 hexadecimal digits, but for refusals.
	Session   string
	Addresses []netip.Addr
	Remote    netip.AddrPort
	// Reason of a refusal, the name of an admit.Reason.
	Reason string
}

// refusedNoticeRate bounds the notices that strangers can cause, per second.
const refusedNoticeRate = 50

// notice is lost while their reader is behind.
func (s *Server) notice(n Notice) {
	if s.records.notices == nil {
		return
	}
	if s.records.queue.len() >= recordBacklog {
		s.stats.drop(ReasonRecordLost)
		return
	}
	s.records.queue.put(entry{notice: &n})
}

func (s *Server) noticeRefused(now time.Time, r *admit.Refusal, remote netip.AddrPort) {
	if s.noticeRate.Allow(now) {
		s.notice(Notice{Time: now, Kind: NoticeRefused, Device: r.Device, Remote: remote, Reason: r.Reason.String()})
	}
}

// notice of a session.
func (sh *shard) notice(now time.Time, s *session, kind NoticeKind, addresses []netip.Addr) {
	sh.server.notice(Notice{
		Time: now, Kind: kind, Device: s.device, Session: fmt.Sprintf("%016x", uint64(s.id)), Addresses: addresses, Remote: s.remote,
	})
}
