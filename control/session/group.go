package session

import (
	"errors"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// grouped says which group's Child SAs a machine installs: its session's, as it
// is now.
func (s *session) grouped(changes []dataplane.Change) {
	for i, c := range changes {
		if c, ok := c.(dataplane.Install); ok {
			c.Child.Group = s.group
			changes[i] = c
		}
	}
}

// regroup tells the data plane that a session's device is in another group. A
// Child SA that is being installed, with the old one, is told when it is up.
func (sh *shard) regroup(s *session, group string) {
	sh.server.log.Info("session is in another group",
		slog.String("device", s.device), slog.String("from", s.group), slog.String("group", group))
	s.group, s.regrouped = group, true
	if !s.established() {
		return // its first Child SA brings the group along
	}
	sh.change(s, func(c *card) { c.name(func(n *names) { n.group = group }) })
	for _, c := range s.card.children {
		sh.applyGroup(s, c.inbound)
	}
	sh.tell(s)
}

func (sh *shard) applyGroup(s *session, inbound dataplane.SPI) {
	sh.server.data.tasks.put(task{sh: sh, group: s.id, apply: &ike.Apply{
		Changes: []dataplane.Change{dataplane.Regroup{Inbound: inbound, Group: s.group}},
	}})
}

// notRegrouped ends a session whose device can't be put into its group: it would
// go on with what the old one may. A Child SA that is gone needs no group.
func notRegrouped(sh *shard, id lease.SessionID, changes []dataplane.Change, err error) {
	if id == 0 || errors.Is(err, dataplane.ErrUnknownSPI) {
		return
	}
	for _, c := range changes {
		if c, ok := c.(dataplane.Regroup); ok {
			sh.mail.put(groupRefused{id: id, group: c.Group})
		}
	}
}

// groupRefused: a session that is in yet another group by now goes on.
type groupRefused struct {
	id    lease.SessionID
	group string
}

func (g groupRefused) deliver(sh *shard, now time.Time) {
	if s := sh.sessions[g.id]; s != nil && s.group == g.group {
		sh.close(now, s, ike.CloseInternal)
	}
}
