package dm

import (
	"fmt"
	"slices"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// take does what a message of the server says and queues the answers. over: the
// session has come to its end. final: our message had ended its package.
func (r *run) take(m *syncml.Message, final bool) (over bool, err error) {
	if m.Header.RespURI != "" {
		r.url = m.Header.RespURI
	}
	if n := m.Header.Meta.MaxMsgSize; n > 0 {
		r.serverMsg = int(min(n, 16<<20))
	}
	code, chal := r.serverHeader(&m.Header)
	status := &syncml.Status{MsgRef: m.Header.MsgID, CmdRef: "0", Cmd: "SyncHdr", Code: code, Chal: chal}
	r.queue = append([]syncml.Command{status}, r.queue...)
	r.asked = !m.Final && !slices.ContainsFunc(m.Body, asksNext)
	// Even a server that we don't believe tells us the next nonce.
	again := false
	for _, c := range m.Body {
		if st, ok := c.(*syncml.Status); ok && st.CmdRef == "0" {
			if again, err = r.headerStatus(st); err != nil {
				return true, err
			}
		}
	}
	if !r.believed {
		if r.doubts > 2 {
			return true, fmt.Errorf("%w: the server can't show who it is", ErrAuthentication)
		}
		r.asked = false
		return false, nil
	}
	work := false
	for _, c := range m.Body {
		switch c := c.(type) {
		case *syncml.Status:
		case *syncml.Alert:
			switch c.Code {
			case syncml.AlertSessionAbort:
				r.summary.Aborted = true
				return true, nil
			case syncml.AlertNextMessage:
				work = true
			case syncml.AlertNoEndOfData:
				r.chunk = nil
			default:
				work = true
				r.alert(m, c)
			}
		case *syncml.Results, *syncml.Unknown:
			return true, fmt.Errorf("%w: a %s from a server", ErrServer, c.Name())
		default:
			work = true
			if err := r.command(m, c); err != nil {
				return true, err
			}
		}
	}
	switch {
	case again:
		header := r.queue
		r.initialize()
		r.queue = append(header, r.queue...)
		r.asked = false
	case r.asked:
		r.queue = append(r.queue, &syncml.Alert{Code: syncml.AlertNextMessage})
	case final && !work:
		return true, nil
	}
	return false, nil
}

// asksNext: the server asks for more of our package.
func asksNext(c syncml.Command) bool {
	a, ok := c.(*syncml.Alert)
	return ok && a.Code == syncml.AlertNextMessage
}

// status queues the answer to a command or header of m.
func (r *run) status(m *syncml.Message, st *syncml.Status) {
	st.MsgRef = m.Header.MsgID
	r.queue = append(r.queue, st)
}

// alert for the user.
func (r *run) alert(m *syncml.Message, a *syncml.Alert) {
	st := &syncml.Status{CmdRef: a.CmdID, Cmd: a.Name(), Code: syncml.StatusOK}
	if a.Code < syncml.AlertDisplay || a.Code > syncml.AlertMultipleChoice {
		st.Code = syncml.StatusNotSupported
	} else if answer, ok := r.cfg.Answers[a.Code]; ok {
		st.Code = answer.Code
		if answer.Data != "" {
			st.Items = []syncml.Item{{Data: []byte(answer.Data), HasData: true}}
		}
	}
	r.summary.Commands++
	r.status(m, st)
}
