package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Paging is what lists take. It is exported for the reflection of huma only, as
// are the types of paths.
type Paging struct {
	After string `query:"after" maxLength:"128" doc:"The next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

// pageOf a list that was asked for one more than the limit.
func pageOf[A, B any](list []A, limit int, convert func(A) B, cursor func(A) string) Page[B] {
	p := Page[B]{Items: []B{}}
	for i, v := range list {
		if i == limit {
			p.Next = cursor(list[i-1])
			break
		}
		p.Items = append(p.Items, convert(v))
	}
	return p
}

type body[T any] struct{ Body T }

type requestPath struct {
	ID string `path:"id" maxLength:"32"`
}

func (s *server) requests(api huma.API) {
	create := operation(http.MethodPost, "/v1/requests", "create-request", "Make a request and its one-time password", "requests")
	create.DefaultStatus = http.StatusCreated
	huma.Register(api, create, s.createRequest)

	type list struct {
		Paging
		State  string `query:"state" enum:"open,used,expired,cancelled,exhausted"`
		User   string `query:"user" maxLength:"64"`
		Device string `query:"device" maxLength:"64"`
	}
	huma.Register(api, operation(http.MethodGet, "/v1/requests", "list-requests", "List requests", "requests"),
		func(ctx context.Context, in *list) (*body[Page[Request]], error) {
			found, err := s.Directory.Requests(ctx, directory.RequestFilter{
				State: directory.State(in.State), User: in.User, Device: in.Device, After: in.After, Limit: in.Limit + 1,
			})
			if err != nil {
				return nil, s.problem(err)
			}
			return &body[Page[Request]]{pageOf(found, in.Limit, requestOf, func(q directory.Request) string { return q.ID.String() })}, nil
		})

	huma.Register(api, operation(http.MethodGet, "/v1/requests/{id}", "show-request", "Show a request", "requests"),
		func(ctx context.Context, in *requestPath) (*body[Request], error) {
			id, err := otp.ParseID(in.ID)
			if err != nil {
				return nil, s.problem(err)
			}
			return s.request(ctx, id)
		})

	huma.Register(api, operation(http.MethodPost, "/v1/requests/{id}/cancel", "cancel-request", "Cancel an open request", "requests"),
		func(ctx context.Context, in *requestPath) (*body[Request], error) {
			id, err := otp.ParseID(in.ID)
			if err == nil {
				err = s.Service.CancelRequest(ctx, by(ctx), id)
			}
			if err != nil {
				return nil, s.problem(err)
			}
			return s.request(ctx, id)
		})
}

func (s *server) request(ctx context.Context, id otp.ID) (*body[Request], error) {
	q, err := s.Directory.Request(ctx, id)
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[Request]{requestOf(q)}, nil
}

func (s *server) createRequest(ctx context.Context, in *body[NewRequest]) (*body[CreatedRequest], error) {
	q, code, err := s.Service.CreateRequest(ctx, by(ctx), enroll.NewRequest{
		User: in.Body.User, Email: in.Body.Email, Device: in.Body.Device, Groups: in.Body.Groups,
		Valid: time.Duration(min(in.Body.ValidSeconds, int64(time.Duration(1<<62)/time.Second))) * time.Second,
	})
	if err != nil {
		return nil, s.problem(err)
	}
	defer code.Password.Erase()
	return &body[CreatedRequest]{CreatedRequest{
		Request: requestOf(q), Password: code.Password.Reveal(), Code: code.Reveal(), URL: s.PageURL(q.ID),
	}}, nil
}

func requestOf(q directory.Request) Request {
	return Request{
		ID: q.ID.String(), Device: q.Device, User: q.User, Email: q.Email, Groups: listed(q.Groups), State: string(q.State),
		Guesses: q.Guesses, Created: q.Created, CreatedBy: q.CreatedBy, Expires: q.Expires, Closed: q.Closed, Serial: q.Serial,
	}
}

// listed is never null in JSON.
func listed(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
