package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
)

// numbered is paging by numbers.
type numbered struct {
	After int64 `query:"after" minimum:"0"`
	Limit int   `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

// raw is an answer that is no JSON.
type raw struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// records are what was done, what others must hear of, and whom to believe.
func (s *server) records(api huma.API) {
	huma.Register(api, operation(http.MethodGet, "/v1/audit", "list-audit", "Read the audit record", "records"),
		func(ctx context.Context, in *numbered) (*body[Page[Entry]], error) {
			found, err := s.Directory.Audit(ctx, in.After, in.Limit+1)
			if err != nil {
				return nil, s.problem(err)
			}
			return &body[Page[Entry]]{pageOf(found, in.Limit, entryOf, func(e directory.Entry) string { return strconv.FormatInt(e.ID, 10) })}, nil
		})
	huma.Register(api, operation(http.MethodGet, "/v1/outbox", "read-outbox", "Read what others have to hear, in the order of commits", "records"),
		func(ctx context.Context, in *numbered) (*body[Page[Event]], error) {
			found, err := s.Directory.Outbox(ctx, in.After, in.Limit+1)
			if err != nil {
				return nil, s.problem(err)
			}
			return &body[Page[Event]]{pageOf(found, in.Limit, eventOf, func(e directory.Event) string { return strconv.FormatInt(e.Number, 10) })}, nil
		})
	huma.Register(api, operation(http.MethodGet, "/v1/server", "show-server", "What tools have to know of this server", "server"),
		func(ctx context.Context, _ *struct{}) (*body[Server], error) {
			t, err := s.Service.Trust(ctx)
			if err != nil {
				return nil, s.problem(err)
			}
			sum := sha256.Sum256(t.Root.Raw)
			d := s.Describe
			d.Root, d.RootSHA256 = string(ca.EncodeCertificates(t.Root)), hex.EncodeToString(sum[:])
			return &body[Server]{d}, nil
		})
	list := func(path, id, summary string, which func(enroll.Trust) []byte) {
		op := operation(http.MethodGet, path, id, summary, "records")
		op.Responses = map[string]*huma.Response{"200": {
			Description: "Revocation list in DER", Content: map[string]*huma.MediaType{"application/pkix-crl": {}},
		}}
		huma.Register(api, op, func(ctx context.Context, _ *struct{}) (*raw, error) {
			t, err := s.Service.Trust(ctx)
			if err != nil {
				return nil, s.problem(err)
			}
			der := which(t)
			if len(der) == 0 {
				return nil, huma.Error404NotFound("there is none")
			}
			return &raw{"application/pkix-crl", der}, nil
		})
	}
	list("/v1/crl", "read-crl", "Read the complete revocation list", func(t enroll.Trust) []byte { return t.CRL })
	list("/v1/crl/delta", "read-delta-crl", "Read the delta to the complete list, if there is one", func(t enroll.Trust) []byte { return t.Delta })
}

func entryOf(e directory.Entry) Entry {
	out := Entry{
		ID: e.ID, At: e.At, By: e.By.Name, Action: string(e.Action), Request: e.Request, Device: e.Device, Serial: e.Serial, Detail: e.Detail,
	}
	if e.By.Source.IsValid() {
		out.Source = e.By.Source.String()
	}
	return out
}

func eventOf(e directory.Event) Event {
	out := Event{
		Number: e.Number, At: e.At, Kind: string(e.Kind), Device: e.Device, User: e.User, Groups: listed(e.Groups), Serial: e.Serial, Until: e.Until,
	}
	if e.Kind == directory.Revoked || e.Kind == directory.Closed {
		out.Reason = e.Reason.String()
	}
	return out
}
