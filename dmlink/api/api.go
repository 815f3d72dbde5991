package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/roamgate/roamgate/dmlink/access"
)

// api is the handler's state.
type api struct {
	Options
	huma    huma.API
	limits  limiter
	started time.Time
	bound   map[*Operation]bool
	// patterns that the mux was given, as "METHOD /path".
	patterns []string
}

// OpenAPIPath of the document that describes the API. It is for everybody who
// has a role.
const OpenAPIPath = "/openapi.json"

// New makes the handler of the API. It fails if a row of the table has no
// handler, or a type of tasks no row.
func New(o Options) (http.Handler, error) {
	s, handler, err := build(o)
	if err != nil {
		return nil, err
	}
	s.Log.Debug("operations of administrators", slog.Int("count", len(s.bound)))
	return handler, nil
}

func build(o Options) (*api, http.Handler, error) {
	if o.Access == nil || o.Devices == nil || o.Tasks == nil || o.Desk == nil || o.Policies == nil || o.Versions == nil || o.Inventories == nil || o.Fleet == nil {
		return nil, nil, errors.New("api: an option is missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &api{Options: o, limits: limiter{until: map[string]time.Time{}}, started: o.Now(), bound: map[*Operation]bool{}}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Roamgate device management", o.Version)
	config.Info.Description = "Devices, tasks, policies and administrators of one instance. Mutual TLS or bearer tokens; roles hold in this instance. See role.operations for who may what."
	// No documentation from elsewhere, no links to schemas in answers; the document
	// is served by an operation of its own, behind authentication.
	config.DocsPath, config.SchemasPath, config.OpenAPIPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer"},
		"certificate": {Type: "mutualTLS"},
	}
	s.huma = humago.New(recorder{mux, s}, config)
	s.servers()
	s.roles()
	s.records()
	s.devices()
	s.schedules()
	s.tasks()
	s.policies()
	s.inventories()
	s.gateways()
	if err := s.complete(); err != nil {
		return nil, nil, err
	}
	document, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return nil, nil, err
	}
	s.patterns = append(s.patterns, "GET "+OpenAPIPath)
	mux.HandleFunc("GET "+OpenAPIPath, s.describe(document))
	// A browser that has an administrator's certificate shows it to whoever asks.
	inner := http.NewCrossOriginProtection().Handler(s.known(mux))
	return s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		inner.ServeHTTP(w, r)
	}), nil
}

// known answers for what isn't there in the form of all other refusals.
func (s *api) known(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		only := status{header: w.Header()}
		h.ServeHTTP(&only, r)
		s.refuse(w, newProblem(only.code, "there is no "+r.Method+" here", "See "+OpenAPIPath+", or `gatewayd role operations`."))
	})
}

// status is a ResponseWriter that keeps header and status only.
type status struct {
	header http.Header
	code   int
}

func (s *status) Header() http.Header         { return s.header }
func (s *status) WriteHeader(code int)        { s.code = code }
func (s *status) Write(b []byte) (int, error) { return len(b), nil }

// recorder notes what a mux is given.
type recorder struct {
	*http.ServeMux
	s *api
}

func (r recorder) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	r.s.patterns = append(r.s.patterns, pattern)
	r.ServeMux.HandleFunc(pattern, handler)
}

// schemaName keeps types of other packages apart from ours.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	pkg := t.PkgPath()
	if t.Name() == "" || pkg == "" || pkg == reflect.TypeFor[Operation]().PkgPath() {
		return name
	}
	pkg = pkg[strings.LastIndexByte(pkg, '/')+1:]
	return strings.ToUpper(pkg[:1]) + pkg[1:] + name
}

// complete says which rows have no handler.
func (s *api) complete() error {
	var missing []string
	for _, o := range table {
		if !s.bound[o] {
			missing = append(missing, o.ID)
		}
	}
	for _, name := range s.Desk.Types().Names() {
		if _, ok := taskPlace[name]; !ok {
			missing = append(missing, "task.place."+name+" (no row)")
		}
	}
	if missing != nil {
		return fmt.Errorf("api: operations without a handler: %s", strings.Join(missing, ", "))
	}
	return nil
}

// Call of an operation, for its handler.
type Call struct {
	By        access.Subject
	Roles     access.Set
	Operation *Operation
}

// May says whether the caller may do another operation, too.
func (c *Call) May(o *Operation) bool { return c.Roles.Meets(o.May) }

// resulter is what goes out and says for the audit log what came of it.
type resulter interface{ Result() string }

type callKey struct{}

type body[T any] struct{ Body T }

// bind a handler to a row.
func bind[In, Out any](s *api, r Row[In, Out], handle func(context.Context, *Call, *In) (Out, error)) {
	s.bound[r.Operation] = true
	huma.Register(s.huma, huma.Operation{
		OperationID: r.ID, Method: r.Method, Path: r.Path, Summary: r.Summary, Tags: []string{r.Noun()},
		Description:  "Roles: " + r.May.String() + ".",
		MaxBodyBytes: r.MaxBody, BodyReadTimeout: bodyTimeout,
		Security:    []map[string][]string{{"token": {}}, {"certificate": {}}},
		Middlewares: huma.Middlewares{s.guard(r.Operation)},
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *In) (*body[Out], error) {
		c, _ := ctx.Value(callKey{}).(*guarded)
		if c == nil {
			return nil, s.problem(errors.New("an operation that nobody guards"))
		}
		if at := notText(reflect.ValueOf(in)); at != "" {
			return nil, newProblem(http.StatusUnprocessableEntity, fmt.Sprintf("%.100q isn't text: it has a NUL or isn't UTF-8", at), "")
		}
		var out Out
		err := s.recorded(ctx, c, in, func(ctx context.Context) (result string, err error) {
			if out, err = handle(ctx, &c.Call, in); err != nil {
				return "", err
			}
			if r, ok := any(out).(resulter); ok {
				result = r.Result()
			}
			return result, nil
		})
		if err != nil {
			return nil, s.problem(err)
		}
		return &body[Out]{out}, nil
	})
}

// bodyTimeout is how long what comes in may take.
const bodyTimeout = 30 * time.Second

// guarded is a call that was let in.
type guarded struct {
	Call
	caller caller
}

// guard lets in who may.
func (s *api) guard(o *Operation) func(huma.Context, func(huma.Context)) {
	return func(h huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(h)
		if c := s.admit(w, r, o); c != nil {
			next(huma.WithValue(h, callKey{}, c))
		}
	}
}

// admit says who sent a request, if they may do an operation; otherwise it has
// answered.
func (s *api) admit(w http.ResponseWriter, r *http.Request, o *Operation) *guarded {
	who, err := s.identify(r)
	var p *Problem
	switch {
	case err == nil && who.roles.Meets(o.May):
		return &guarded{Call{who.subject, who.roles, o}, who}
	case err == nil && who.roles == access.Nobody:
		p = newProblem(http.StatusForbidden, fmt.Sprintf("%s has no role in instance %s", who.subject, s.Access.Instance()),
			fmt.Sprintf("A server administrator can give you one: `gatewayd role grant %s ROLE`.", who.subject))
	case err == nil:
		p = newProblem(http.StatusForbidden, fmt.Sprintf("%s needs one of the roles %s; %s has %s", o.ID, o.May, who.subject, who.roles),
			"See `gatewayd role operations` for who may what.")
	case !errors.As(err, &p):
		s.refuse(w, s.problem(err))
		return nil
	}
	s.turnAway(w, r, o, who, p)
	return nil
}

// turnAway writes down that somebody was refused, and tells them; who is refused
// too often is told to wait.
func (s *api) turnAway(w http.ResponseWriter, r *http.Request, o *Operation, who caller, p *Problem) {
	if wait := s.limits.refuse(s.Now(), who.key(), who.subject == (access.Subject{})); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		s.refuse(w, newProblem(http.StatusTooManyRequests, "refused too often: "+p.Detail, p.Hint))
		return
	}
	ctx, cancel := s.mustRecord(r.Context())
	defer cancel()
	if _, err := s.Access.Append(ctx, access.Entry{
		Subject: who.subject.String(), Source: who.sourceText(), Operation: o.ID, Phase: access.Refused,
		Object: r.URL.Path, Detail: p.Detail, Status: p.Status,
	}); err != nil {
		p = s.problem(err)
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	s.refuse(w, p)
}

// refuse answers with a problem.
func (s *api) refuse(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		s.Log.Debug("answer", slog.Any("error", err))
	}
}

// openapi is the operation of the document; it has no row since it is no JSON of
// ours.
var openapi = &Operation{ID: "openapi", Method: http.MethodGet, Path: OpenAPIPath, May: access.Everybody, Summary: "Describe the API"}

func (s *api) describe(document []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.admit(w, r, openapi) == nil {
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
		_, _ = w.Write(document)
	}
}

// recordTimeout bounds how long the audit log may take.
const recordTimeout = 20 * time.Second

// mustRecord is a context for what has to be written although the caller may have
// gone away.
func (s *api) mustRecord(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
}

// recorded does what is asked for, and has the audit log say so: that a change
// was begun before anything happens, and what came of it before it is answered.
func (s *api) recorded(ctx context.Context, c *guarded, in any, work func(context.Context) (string, error)) error {
	if c.Operation.Recorded == Refusals {
		_, err := work(ctx)
		return err
	}
	// Who goes away in the middle leaves no doubt about what was done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	e := access.Entry{Subject: c.By.String(), Source: c.caller.sourceText(), Operation: c.Operation.ID, Phase: access.Looked}
	if l, ok := in.(Changer); ok {
		e.Object, e.Detail = l.Change()
	} else if l, ok := in.(interface{ Look() string }); ok {
		e.Object = l.Look()
	}
	if c.Operation.Recorded == Changes {
		e.Phase = access.Asked
	}
	asked, err := s.Access.Append(ctx, e)
	if err != nil {
		return err
	}
	if c.Operation.Recorded == Looks {
		_, err := work(ctx)
		return err
	}
	result, err := work(ctx)
	end := asked
	end.Phase, end.Of, end.Detail, end.Status = access.Done, asked.Number, result, http.StatusOK
	if err != nil {
		p := s.problem(err)
		end.Phase, end.Detail, end.Status = access.Failed, p.Error(), p.Status
		err = p
	}
	last, cancelLast := s.mustRecord(ctx)
	defer cancelLast()
	if _, lost := s.Access.Append(last, end); lost != nil {
		// That it was asked for is written; to say that it failed would be wrong.
		s.Log.Error("the end of an operation isn't in the audit log", slog.String("operation", e.Operation), slog.Int64("asked", asked.Number), slog.Any("error", lost))
	}
	return err
}

// workTimeout bounds a change.
const workTimeout = 5 * time.Minute
