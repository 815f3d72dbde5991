package session

import (
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// incoming is a large object that the device sends in chunks
// (OMA-TS-DM_Protocol-V1_2_1 section 7).
type incoming struct {
	open bool
	// drop: it was refused, the rest of it is read and forgotten.
	drop bool
	// item is what has come so far, with the Meta of the first chunk; owner the
	// name of the command it came in.
	item  syncml.Item
	owner string
	// flight of the Get whose result it is; nil for other objects.
	flight *flight
	// touched: the message that is being read had a chunk of it.
	touched bool
}

// began: a message is about to be read.
func (o *incoming) began() { o.touched = false }

// ended: it was read. A message in which an open object didn't go on has lost
// it.
func (o *incoming) ended(s *Session) {
	if o.open && !o.touched {
		o.end(s)
	}
}

// end gives up on the object and tells the device so.
func (o *incoming) end(s *Session) {
	if !o.drop {
		o.lose(syncml.StatusIncompleteCommand)
		s.owe(&syncml.Alert{Code: syncml.AlertNoEndOfData, Items: []syncml.Item{{Source: o.item.Source, Target: o.item.Target}}})
	}
	*o = incoming{}
}

// lose tells the flight why it has no result.
func (o *incoming) lose(code int) {
	if o.flight != nil {
		o.flight.lost = code
	}
}

// add takes one item of a command c and returns a whole one if it is complete.
// Chunks are answered; what a whole item deserves is the caller's.
func (o *incoming) add(s *Session, i syncml.Item, c syncml.Command, f *flight, msgID string) (syncml.Item, bool) {
	answer := func(code int) {
		s.owe(&syncml.Status{
			MsgRef: msgID, CmdRef: c.ID(), Cmd: c.Name(), Code: code,
			TargetRefs: nonEmpty(i.Target.URI), SourceRef: nonEmpty(i.Source.URI),
		})
	}
	goesOn := o.open && !o.touched && o.owner == c.Name() && o.item.Source.URI == i.Source.URI && o.item.Target.URI == i.Target.URI
	switch {
	case goesOn:
		o.touched = true
	case o.open && !o.touched:
		// Something else where the next chunk belongs.
		o.end(s)
		fallthrough
	case !o.open:
		if !i.MoreData {
			return i, true
		}
		*o = incoming{open: true, touched: true, owner: c.Name(), item: i, flight: f}
		o.item.Data, o.item.MoreData = nil, false
		switch {
		case i.Meta.Size == 0:
			o.drop = true
			o.lose(syncml.StatusIncompleteCommand)
			answer(syncml.StatusIncompleteCommand)
		case i.Meta.Size > int64(s.cfg.MaxObjSize):
			o.drop = true
			o.lose(syncml.StatusSizeTooBig)
			answer(syncml.StatusSizeTooBig)
		}
	default:
		// A chunk ends its message: nothing may follow it.
		answer(syncml.StatusBadRequest)
		return syncml.Item{}, false
	}
	if o.drop {
		if !i.MoreData {
			*o = incoming{}
		}
		return syncml.Item{}, false
	}
	if int64(len(o.item.Data)+len(i.Data)) > max(o.item.Meta.Size, o.encodedSize()) {
		o.drop = true
		o.lose(syncml.StatusSizeMismatch)
		answer(syncml.StatusSizeMismatch)
	} else {
		o.item.Data, o.item.HasData = append(o.item.Data, i.Data...), true
		o.item.Markup = o.item.Markup || i.Markup
	}
	if i.MoreData {
		if !o.drop {
			answer(syncml.StatusChunkAccepted)
		}
		return syncml.Item{}, false
	}
	whole := *o
	*o = incoming{}
	if whole.drop {
		return syncml.Item{}, false
	}
	size := whole.item.Meta.Size
	if n := int64(len(whole.item.Data)); n != size && (whole.item.Meta.Format != "b64" || decodedSize(whole.item.Data) != size) {
		whole.lose(syncml.StatusSizeMismatch)
		answer(syncml.StatusSizeMismatch)
		return syncml.Item{}, false
	}
	return whole.item, true
}

// encodedSize is what an object of base64 may take, if its Size is meant
// decoded; clients differ. Line ends are included.
func (o *incoming) encodedSize() int64 {
	if o.item.Meta.Format != "b64" {
		return 0
	}
	return (o.item.Meta.Size+2)/3*4 + o.item.Meta.Size/16 + 4
}
