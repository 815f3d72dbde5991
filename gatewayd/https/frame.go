package https

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"
)

// maxAnswer in octets; a larger one is an error of ours.
const maxAnswer = 16 << 20

// headers of every answer. A page that needs more says so itself.
var headers = map[string]string{
	"Strict-Transport-Security":    "max-age=31536000",
	"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// frame is what stands around every request.
func (s *Server) frame(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limits := s.limits.Load()
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if wait := s.rate.take(time.Now(), sourceOf(Source(r.RemoteAddr)), limits.Rate, limits.Burst); wait > 0 {
			s.stats.limited.Add(1)
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			w.Header().Set("Connection", "close")
			http.Error(w, "too many requests from your network", http.StatusTooManyRequests)
			return
		}
		if r.ContentLength > limits.Body {
			s.stats.tooLarge.Add(1)
			w.Header().Set("Connection", "close")
			http.Error(w, "the request is too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limits.Body)
		ctx, cancel := context.WithTimeout(r.Context(), limits.Timeout)
		defer cancel()
		answer := &whole{header: w.Header()}
		if s.run(next, answer, r.WithContext(ctx)) {
			s.stats.request(answer.status)
			answer.send(w)
			return
		}
		s.stats.request(http.StatusInternalServerError)
		http.Error(w, "internal error", http.StatusInternalServerError)
	})
}

// run answers, and says whether that went without a panic.
func (s *Server) run(next http.Handler, w *whole, r *http.Request) (ok bool) {
	defer func() {
		if p := recover(); p != nil && !ok {
			s.log.Error("panic in a request", slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	next.ServeHTTP(w, r)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return true
}

// whole is an answer that is sent at once.
type whole struct {
	header http.Header
	status int
	body   bytes.Buffer
	// shared stands in place of body, see WriteShared.
	shared []byte
}

// WriteShared writes a body that many answers share and nobody changes, without
// a copy for each: who asks often and reads slowly shouldn't fill the memory.
func WriteShared(w http.ResponseWriter, body []byte) {
	a, ok := w.(*whole)
	if !ok || a.body.Len() > 0 || len(body) > maxAnswer {
		_, _ = w.Write(body)
		return
	}
	a.WriteHeader(http.StatusOK)
	a.shared = body
}

func (w *whole) Header() http.Header { return w.header }

func (w *whole) WriteHeader(status int) {
	// 1xx are no answer.
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *whole) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.shared != nil || w.body.Len()+len(b) > maxAnswer {
		return 0, http.ErrContentLength
	}
	return w.body.Write(b)
}

func (w *whole) send(to http.ResponseWriter) {
	body := w.body.Bytes()
	if w.shared != nil {
		body = w.shared
	}
	if w.status != http.StatusNoContent && w.status != http.StatusNotModified {
		if w.header.Get("Content-Type") == "" && len(body) > 0 {
			w.header.Set("Content-Type", http.DetectContentType(body))
		}
		w.header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	to.WriteHeader(w.status)
	_, _ = to.Write(body)
	clear(w.body.Bytes())
}
