package enroll_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// settle lets the service record what it has put off.
func (w *world) settle() {
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	w.Run(ctx)
}

func (w *world) audit(action directory.Action) []directory.Entry {
	w.t.Helper()
	all, err := w.dir.Audit(w.t.Context(), 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	var some []directory.Entry
	for _, e := range all {
		if e.Action == action {
			some = append(some, e)
		}
	}
	return some
}

// TestSecretReasons: whoever doesn't know a password is refused for reasons
// that the log, the counters and the audit record tell apart, and the Secret
// of which is what keeps a skin from telling.
func TestSecretReasons(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{Guesses: 3, SourceBurst: 100})
	ctx, key := t.Context(), catest.NewKey(t).Public()
	expired := w.request("phone-expired")
	w.clock.turn(8 * time.Hour)
	cancelled, used, wrong, exhausted := w.request("phone-cancelled"), w.request("phone-used"), w.request("phone-wrong"), w.request("phone-exhausted")
	if err := w.CancelRequest(ctx, admin, cancelled.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Enroll(ctx, byPassword(used, catest.NewKey(t).Public())); err != nil {
		t.Fatal(err)
	}
	wrong.Password[9] ^= 0x80
	guess := exhausted
	guess.Password[0] ^= 1
	for range 3 {
		_, err := w.Enroll(ctx, byPassword(guess, key))
		wantRefusal(t, err, enroll.WrongPassword)
	}
	w.settle()
	want := map[enroll.Reason]otp.Code{
		enroll.Unknown: otp.New(), enroll.Expired: expired, enroll.Cancelled: cancelled,
		enroll.Used: used, enroll.WrongPassword: wrong, enroll.Exhausted: exhausted,
	}
	for reason, code := range want {
		_, err := w.Enroll(ctx, byPassword(code, key))
		wantRefusal(t, err, reason)
		if !reason.Secret() {
			t.Errorf("%s would be told", reason)
		}
		_, err = w.Check(ctx, code.ID, "", &code.Password, phone)
		wantRefusal(t, err, reason)
	}
	w.settle()
	counted := w.Metrics()
	found := make(map[string]int)
	for _, e := range w.audit(directory.ActRefuse) {
		found[e.Detail]++
		if e.By.Source != phone {
			t.Errorf("audit entry %+v", e)
		}
	}
	for reason := range want {
		n := 2
		if reason == enroll.WrongPassword {
			n = 5
		}
		if found[string(reason)] != n || counted.Refused[reason] != uint64(n) {
			t.Errorf("%s: %d in the audit record, %d counted, want %d", reason, found[string(reason)], counted.Refused[reason], n)
		}
	}
}

// TestStrangersAreLimited by where they come from, and only for being wrong.
func TestStrangersAreLimited(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{SourceBurst: 5, SourceEvery: time.Minute})
	ctx := t.Context()
	stranger := netip.MustParseAddr("2001:db8:7::1")
	from := func(source string, code otp.Code) error {
		a := byPassword(code, catest.NewKey(t).Public())
		a.Source = netip.MustParseAddr(source)
		_, err := w.Enroll(ctx, a)
		return err
	}
	for range 5 {
		wantRefusal(t, from("2001:db8:7::1", otp.New()), enroll.Unknown)
	}
	code := w.request("tablet-1")
	err := from("2001:db8:7:ff::2", code) // the same /56
	wantRefusal(t, err, enroll.Limited)
	var r *enroll.Refusal
	if errors.As(err, &r) && (r.RetryAfter != time.Minute || r.Reason.Secret()) {
		t.Errorf("refusal %+v", r)
	}
	if _, err := w.Renew(ctx, enroll.Renewal{Source: stranger, Key: catest.NewKey(t).Public()}); err != nil {
		wantRefusal(t, err, enroll.Limited)
	}
	// Devices behind another address are none the worse, however many.
	for i := range 10 {
		if err := from("2001:db8:8::1", w.request(deviceOf(i))); err != nil {
			t.Error(err)
		}
	}
	w.clock.turn(time.Minute)
	if err := from("2001:db8:7::1", code); err != nil {
		t.Errorf("after a minute: %v", err)
	}
	wantRefusal(t, from("2001:db8:7::1", otp.New()), enroll.Unknown)
	wantRefusal(t, from("2001:db8:7::1", otp.New()), enroll.Limited)
	if m := w.Metrics(); m.Sources != 1 || m.Refused[enroll.Limited] != 3 {
		t.Errorf("metrics %+v", m)
	}
}

// TestAStrangerCantCloseARequest: from one place the guesses that close a
// request take longer than it lives.
func TestAStrangerCantCloseARequest(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{})
	p := w.Policy()
	inTime := int64(p.SourceBurst) + int64(p.Valid/p.SourceEvery)
	if inTime >= p.Guesses {
		t.Errorf("%d guesses in %s from one source close a request at %d", inTime, p.Valid, p.Guesses)
	}
}

func TestProve(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{ProofBurst: 20})
	ctx := t.Context()
	prove := func(id otp.ID) []byte {
		var key []byte
		if err := w.Prove(ctx, id, phone, func(k []byte) { key = bytes.Clone(k) }); err != nil {
			t.Fatal(err)
		}
		return key
	}
	code := w.request("phone-1")
	right := code.Password.Key(code.ID)
	if !bytes.Equal(prove(code.ID), right) {
		t.Error("not the key of the request")
	}
	stranger := otp.New().ID
	decoy := prove(stranger)
	if len(decoy) != otp.KeySize || !bytes.Equal(decoy, prove(stranger)) || bytes.Equal(decoy, prove(otp.New().ID)) {
		t.Error("decoys aren't stable, or aren't each request's own")
	}
	if _, err := w.Enroll(ctx, byCode(t, code, catest.NewKey(t).Public())); err != nil {
		t.Fatal(err)
	}
	if used := prove(code.ID); bytes.Equal(used, right) || !bytes.Equal(used, prove(code.ID)) {
		t.Error("the key of a request that was used is still there, or its decoy isn't stable")
	}
	late := w.request("phone-2")
	w.clock.turn(8 * time.Hour)
	if bytes.Equal(prove(late.ID), late.Password.Key(late.ID)) {
		t.Error("the key of a request that has expired is still there")
	}
	limited := 0
	for range 20 {
		err := w.Prove(ctx, stranger, phone, func([]byte) {})
		if errors.Is(err, enroll.ErrRefused) {
			limited++
		}
	}
	if limited == 0 || limited == 20 {
		t.Errorf("%d of the last 20 proofs at once were limited", limited)
	}
}

// TestKeysAtRest: what the database holds doesn't show a password's key, and
// is nothing without the server's key.
func TestKeysAtRest(t *testing.T) {
	d := directorytest.SQLite(t)
	w := newWorld(t, d, enroll.Policy{})
	ctx := t.Context()
	code := w.request("phone-1")
	key := code.Password.Key(code.ID)
	secret := func() []byte {
		q, err := d.Request(ctx, code.ID)
		if err != nil {
			t.Fatal(err)
		}
		return q.Secret
	}
	before := secret()
	if len(before) == 0 || bytes.Contains(before, key) {
		t.Errorf("secret %x of key %x", before, key)
	}
	other, err := enroll.New(ctx, enroll.Options{Directory: d, Issuer: w.ca.Issuer(), SealKey: bytes.Repeat([]byte{8}, enroll.SealKeySize), Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Enroll(ctx, byPassword(code, catest.NewKey(t).Public()))
	wantRefusal(t, err, enroll.WrongPassword)
	if _, err := w.Enroll(ctx, byPassword(code, catest.NewKey(t).Public())); err != nil {
		t.Fatal(err)
	}
	if after := secret(); bytes.Equal(after, before) || len(after) == 0 {
		t.Errorf("secret after use %x", after)
	}
	w.clock.turn(8 * time.Hour)
	w.Sweep(ctx)
	if left := secret(); left != nil {
		t.Errorf("secret after its time %x", left)
	}
	if _, err := enroll.New(ctx, enroll.Options{Directory: d, Issuer: w.ca.Issuer(), SealKey: sealer[1:]}); err == nil {
		t.Error("a short seal key was taken")
	}
}

// TestByName: EST, SCEP and Windows may bring a user's name in place of the
// request; the password says which of the user's devices it is.
func TestByName(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{})
	codes := map[string]otp.Code{"phone-1": w.request("phone-1"), "tablet-1": w.request("tablet-1")}
	for device, code := range codes {
		key := catest.NewKey(t).Public()
		for i, name := range []string{"Bob", " BOB@example.org "} {
			a := byPassword(code, key)
			a.ID, a.User = otp.ID{}, name
			issued, err := w.Enroll(t.Context(), a)
			if err != nil || issued.Device != device || issued.Again != (i > 0) {
				t.Errorf("%s as %q: %+v, %v", device, name, issued, err)
			}
		}
	}
	a := byPassword(otp.New(), catest.NewKey(t).Public())
	a.ID, a.User = otp.ID{}, "bob"
	_, err := w.Enroll(t.Context(), a)
	wantRefusal(t, err, enroll.Used)
	w.request("watch-1")
	_, err = w.Enroll(t.Context(), a)
	wantRefusal(t, err, enroll.WrongPassword)
	for _, nobody := range []string{"eve", "", strings.Repeat("x", 1000)} {
		a.User = nobody
		_, err = w.Enroll(t.Context(), a)
		wantRefusal(t, err, enroll.Unknown)
	}
}

func TestKeyPolicy(t *testing.T) {
	ec := func(curve elliptic.Curve) crypto.PublicKey {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key.Public()
	}
	rsaKey := func(bits int) *rsa.PublicKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return &key.PublicKey
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := rsaKey(2048)
	huge := &rsa.PublicKey{N: new(big.Int).Lsh(good.N, 2049), E: good.E}
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{})
	code := w.request("phone-1")
	for name, key := range map[string]crypto.PublicKey{
		"P-224": ec(elliptic.P224()), "P-521": ec(elliptic.P521()), "Ed25519": ed, "RSA-1024": rsaKey(1024), "RSA-4097": huge,
		"exponent 3": &rsa.PublicKey{N: good.N, E: 3}, "even modulus": &rsa.PublicKey{N: new(big.Int).Lsh(good.N, 1), E: good.E},
	} {
		_, err := w.Enroll(t.Context(), byPassword(code, key))
		var r *enroll.Refusal
		if !errors.As(err, &r) || r.Reason != enroll.KeyRefused || r.Detail == "" || r.Reason.Secret() {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.Enroll(t.Context(), byPassword(code, nil))
	wantRefusal(t, err, enroll.KeyRefused)
	// Who doesn't know the password isn't told about keys.
	stranger := code
	stranger.Password[0] ^= 1
	_, err = w.Enroll(t.Context(), byPassword(stranger, ed))
	wantRefusal(t, err, enroll.WrongPassword)
	// The password is as good as before.
	if _, err := w.Enroll(t.Context(), byPassword(code, good)); err != nil {
		t.Error(err)
	}
	if _, err := w.Enroll(t.Context(), byPassword(w.request("phone-2"), ec(elliptic.P384()))); err != nil {
		t.Error(err)
	}
	_, err = w.Enroll(t.Context(), byPassword(w.request("phone-3"), good))
	wantRefusal(t, err, enroll.KeyRefused)
	open := newWorld(t, directorytest.SQLite(t), enroll.Policy{Ed25519: true})
	if _, err := open.Enroll(t.Context(), byPassword(open.request("phone-1"), ed)); err != nil {
		t.Error(err)
	}
}

// TestRequestsThatAreInvalid leave nothing behind.
func TestRequestsThatAreInvalid(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{OpenPerUser: 2})
	good := enroll.NewRequest{User: "bob", Email: "bob@example.org", Device: "phone-1"}
	for name, spoil := range map[string]func(*enroll.NewRequest){
		"no device":        func(n *enroll.NewRequest) { n.Device = "" },
		"device with path": func(n *enroll.NewRequest) { n.Device = "../phone" },
		"nobody":           func(n *enroll.NewRequest) { n.User, n.Email = "", "" },
		"user with space":  func(n *enroll.NewRequest) { n.User = "bob smith" },
		"long user":        func(n *enroll.NewRequest) { n.User = strings.Repeat("b", 300) },
		"no address":       func(n *enroll.NewRequest) { n.Email = "bob" },
		"two ats":          func(n *enroll.NewRequest) { n.Email = "bob@example@org" },
		"group":            func(n *enroll.NewRequest) { n.Groups = []string{"sales\n"} },
		"groups":           func(n *enroll.NewRequest) { n.Groups = make([]string, 33) },
		"a second":         func(n *enroll.NewRequest) { n.Valid = time.Second },
		"a year":           func(n *enroll.NewRequest) { n.Valid = 365 * 24 * time.Hour },
	} {
		n := good
		spoil(&n)
		if _, _, err := w.CreateRequest(t.Context(), admin, n); !errors.Is(err, enroll.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, device := range []string{"phone-1", "phone-2"} {
		w.request(device)
	}
	_, _, err := w.CreateRequest(t.Context(), admin, enroll.NewRequest{User: "bob", Device: "phone-3"})
	if !errors.Is(err, directory.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	all, err := w.Requests(t.Context(), directory.RequestFilter{})
	if err != nil || len(all) != 2 || all[0].Secret != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

type people map[string]directory.User

func (p people) Person(_ context.Context, who string) (directory.User, error) {
	u, ok := p[who]
	if !ok {
		return u, directory.ErrNotFound
	}
	return u, nil
}

// TestPeople: users who are known elsewhere.
func TestPeople(t *testing.T) {
	d := directorytest.SQLite(t)
	w := newWorld(t, d, enroll.Policy{})
	s, err := enroll.New(t.Context(), enroll.Options{Directory: d, Issuer: w.ca.Issuer(), SealKey: sealer, Now: w.clock.Now,
		People: people{"bob@example.org": {Name: "Bob", Email: "Bob@Example.org"}}})
	if err != nil {
		t.Fatal(err)
	}
	q, _, err := s.CreateRequest(t.Context(), admin, enroll.NewRequest{Email: "bob@example.org", Device: "phone-1"})
	if err != nil || q.User != "bob" || q.Email != "bob@example.org" || !q.Expires.Equal(noon.Add(8*time.Hour)) {
		t.Errorf("%+v, %v", q, err)
	}
	if _, _, err := s.CreateRequest(t.Context(), admin, enroll.NewRequest{User: "eve", Device: "phone-2"}); !errors.Is(err, directory.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	for email, want := range map[string]bool{"BOB@example.org": true, "eve@example.org": false, "": false} {
		if yes, err := s.Lookup(t.Context(), email, phone); err != nil || yes != want {
			t.Errorf("%q: %t, %v", email, yes, err)
		}
	}
}

// TestRunExpires: with time going by, and nobody asking, requests are closed,
// their secrets go, and a list is published.
func TestRunExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directorytest.SQLite(t)
		a := catest.New(t, time.Now())
		s, err := enroll.New(t.Context(), enroll.Options{Directory: d, Issuer: a.Issuer(), SealKey: sealer})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.Run(ctx)
			close(done)
		}()
		q, _, err := s.CreateRequest(ctx, admin, enroll.NewRequest{User: "bob", Device: "phone-1", Valid: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		state := func() directory.State {
			got, err := d.Request(ctx, q.ID)
			if err != nil {
				t.Fatal(err)
			}
			if (got.Secret == nil) != (got.State == directory.Expired) {
				t.Errorf("%s with secret %x", got.State, got.Secret)
			}
			return got.State
		}
		time.Sleep(time.Hour - time.Minute)
		synctest.Wait()
		if got := state(); got != directory.Open {
			t.Errorf("a minute before its end: %s", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := state(); got != directory.Expired || s.Metrics().Expired != 1 {
			t.Errorf("a minute after its end: %s, %d counted", got, s.Metrics().Expired)
		}
		if l, err := d.Lists(ctx, a.Issuer().ID()); err != nil || l.Number != 1 {
			t.Errorf("list %d, %v", l.Number, err)
		}
		cancel()
		<-done
	})
}

// TestLogSaysWhatAnswersDont, and never a password.
func TestLogSaysWhatAnswersDont(t *testing.T) {
	var log bytes.Buffer
	d := directorytest.SQLite(t)
	w := newWorld(t, d, enroll.Policy{})
	s, err := enroll.New(t.Context(), enroll.Options{Directory: d, Issuer: w.ca.Issuer(), SealKey: sealer, Now: w.clock.Now,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	_, code, err := s.CreateRequest(t.Context(), admin, enroll.NewRequest{User: "bob", Device: "phone-1"})
	if err != nil {
		t.Fatal(err)
	}
	wrong := code
	wrong.Password[0] ^= 1
	if _, err := s.Enroll(t.Context(), byPassword(wrong, catest.NewKey(t).Public())); err == nil {
		t.Fatal("a wrong password was taken")
	}
	if _, err := s.Enroll(t.Context(), byPassword(code, catest.NewKey(t).Public())); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	for _, want := range []string{"reason=wrong_password", "request=" + code.ID.String(), "device=phone-1", "source=198.51.100.7", `msg="device enrolled"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s:\n%s", want, text)
		}
	}
	for _, secret := range []string{code.Password.Reveal(), strings.ReplaceAll(code.Password.Reveal(), "-", "")} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows a password:\n%s", text)
		}
	}
}
