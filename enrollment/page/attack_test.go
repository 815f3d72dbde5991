package page_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
)

// A form that is sent twice, or again because its answer got lost, gives the same
// certificate: the browser still has the cookie of the log-in then, and the
// request is used up.
func TestAttackConsentTwice(t *testing.T) {
	w := newWorld(t, enroll.Policy{})
	first := w.browser()
	first.login(w.request("phone"))
	second := w.browser()
	second.client.Jar = jarOf(t, first)
	if status, body := first.choose("p12", ""); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, body)
	}
	status, body := second.choose("p12", "")
	if status != http.StatusOK {
		t.Fatalf("the answer was lost, and the form sent again: %d\n%s", status, body)
	}
	status, file, _ := second.do(http.MethodGet, "/file/phone.p12", nil)
	if status != http.StatusOK {
		t.Fatalf("file: %d", status)
	}
	w.checkContainer(t, []byte(file), secrets.FindStringSubmatch(body)[1], "phone")
}

// A kind for which no file can be made is refused before the request is used up.
func TestAttackKindThatCantBe(t *testing.T) {
	w := newWorld(t, enroll.Policy{})
	b := w.browser()
	code := w.request("tab.-1") // a name that profiles don't take
	b.login(code)
	for _, kind := range []string{"apple", "android", "windows", "strongswan"} {
		if status, body := b.choose(kind, ""); status != http.StatusUnprocessableEntity || !strings.Contains(body, "no file for that kind") {
			t.Errorf("%s: %d\n%s", kind, status, body)
		}
	}
	if q, err := w.service.Directory().Request(t.Context(), code.ID); err != nil || q.State != directory.Open {
		t.Errorf("request: %s (%v)", q.State, err)
	}
	if status, body := b.choose("p12", ""); status != http.StatusOK {
		t.Errorf("p12: %d\n%s", status, body)
	}
}

// jarOf copies the cookies that a browser has now.
func jarOf(t *testing.T, b *browser) http.CookieJar {
	t.Helper()
	at, err := url.Parse(b.at)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(at) {
		// A jar gives names and values only.
		c.Path, c.Secure = "/", true
		jar.SetCookies(at, []*http.Cookie{c})
	}
	return jar
}
