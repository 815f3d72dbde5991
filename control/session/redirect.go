package session

import (
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// Redirect sends the peers of the sessions that match to another gateway, a
// domain name or an IP address (RFC 5685 section 5), and returns how many
// sessions match. Peers that don't know redirection stay; the others delete
// their IKE SA when they have gone.
func (s *Server) Redirect(match func(Info) bool, to string) int {
	n := 0
	for _, info := range s.Sessions() {
		if match(info) {
			n++
			s.shards[info.ID>>56].mail.put(redirectOrder{id: info.ID, to: to})
		}
	}
	return n
}

// redirectOrder sends a peer away from outside its shard.
type redirectOrder struct {
	id lease.SessionID
	to string
}

func (o redirectOrder) deliver(sh *shard, now time.Time) {
	if s := sh.sessions[o.id]; s != nil && s.up() {
		sh.step(now, s.current, ike.Redirect{To: o.to})
	}
}
