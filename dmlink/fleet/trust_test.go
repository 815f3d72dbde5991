package fleet_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/fleet"
)

// roots of devices are committed once from what the manager has, then by
// administrators, and a document that doesn't mention them leaves them.
func roots(t *testing.T, w *world) {
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.issuer.Root().Raw}))
	issuing := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.issuer.Chain()[0].Raw}))
	first := func(o *fleet.Options) {
		o.Trust = &fleet.Trust{Roots: []string{root}, Intermediates: []string{issuing}}
	}
	f, stop := w.manager(t, first)
	has := func(step string, want *fleet.Trust) {
		t.Helper()
		c, err := f.Content(t.Context())
		must(t, err)
		if (c.Trust == nil) != (want == nil) {
			t.Fatalf("%s: %+v", step, c.Trust)
		}
		if want != nil && strings.Join(c.Trust.Roots, "")+"|"+strings.Join(c.Trust.Intermediates, "") != strings.Join(want.Roots, "")+"|"+strings.Join(want.Intermediates, "") {
			t.Errorf("%s: %+v", step, c.Trust)
		}
	}
	has("at first", &fleet.Trust{Roots: []string{root}, Intermediates: []string{issuing}})
	g := w.join(t, f, "gateway-1")[0]
	eventually(t, "the gateway has them", func() bool { return f.Documents().Len(gcm.Trust) == 2 && g.same(f) })
	must(t, f.SetContent(t.Context(), fleet.Content{Groups: map[string]fleet.Group{"sales": {}}}))
	has("a document without them", &fleet.Trust{Roots: []string{root}, Intermediates: []string{issuing}})
	v, _, _ := f.Documents().Version(gcm.Trust)
	must(t, f.SetContent(t.Context(), fleet.Content{Trust: &fleet.Trust{Roots: []string{root + issuing + root}}}))
	if n := f.Documents().Len(gcm.Trust); n != 2 {
		t.Errorf("%d roots", n)
	}
	if now, _, _ := f.Documents().Version(gcm.Trust); now.Compare(v) <= 0 {
		t.Errorf("%v after %v", now, v)
	}
	for _, bad := range []string{"", "text", root + "text", strings.ReplaceAll(root, "CERTIFICATE", "X509 CRL"), root[:len(root)/2]} {
		err := f.SetContent(t.Context(), fleet.Content{Trust: &fleet.Trust{Roots: []string{bad}}})
		if !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	must(t, f.SetContent(t.Context(), fleet.Content{Trust: &fleet.Trust{}}))
	has("none", nil)
	eventually(t, "the gateway has none", func() bool { return g.same(f) && f.Documents().Len(gcm.Trust) == 0 })
	// Whoever took them away meant it.
	stop()
	f, _ = w.manager(t, first)
	has("after a restart", nil)
}

// earlierRoots of gateways that were there before roots were pushed hold until
// administrators say which come instead.
func earlierRoots(t *testing.T, w *world) {
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.issuer.Root().Raw}))
	f, stop := w.manager(t, nil)
	g := w.join(t, f, "gateway-1")[0]
	stop()
	var log bytes.Buffer
	o := w.options(t)
	o.Trust, o.Log = &fleet.Trust{Roots: []string{root}}, slog.New(slog.NewTextHandler(&log, nil))
	if _, err := fleet.New(t.Context(), w.db, o); err != nil {
		t.Fatal(err)
	}
	if told := log.String(); !strings.Contains(told, "gatewayd gateway config import") {
		t.Errorf("nobody is told how to begin: %q", told)
	}
	f, _ = w.manager(t, func(o *fleet.Options) { o.Trust = &fleet.Trust{Roots: []string{root}} })
	if c, err := f.Content(t.Context()); err != nil || c.Trust != nil || f.Documents().Len(gcm.Trust) != 0 {
		t.Errorf("%+v, %v", c.Trust, err)
	}
	must(t, f.SetContent(t.Context(), fleet.Content{Trust: &fleet.Trust{Roots: []string{root}}}))
	eventually(t, "the gateway has them", func() bool { return g.State().Sections[gcm.Trust].Records == 1 && g.same(f) })
}
