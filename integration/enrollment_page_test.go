package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/page"
	"github.com/roamgate/roamgate/enrollment/profile"
	"github.com/roamgate/roamgate/integration/netns"
)

// A user turns a one-time password into a file, in a real browser, with scripts
// and without; what assistive technology sees has names, colours have contrast,
// and the page tries nothing that its policy forbids.
func TestPageInChromium(t *testing.T) {
	if os.Getenv(netns.IntegrationEnv) == "" {
		t.Skip("needs Chromium: run `make test`")
	}
	a := catest.New(t, time.Now())
	key := make([]byte, enroll.SealKeySize)
	service, err := enroll.New(t.Context(), enroll.Options{Directory: directorytest.SQLite(t), Issuer: a.Issuer(), SealKey: key})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := page.New(page.Options{
		Service: service, Key: key, Title: "Example VPN", Instance: a.InstanceOID().String(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Profile: profile.Profile{
			Title: "Example VPN", Gateways: []profile.Gateway{{Address: "vpn.example.com"}},
			IKE: []string{"aes256-sha256-ecp256"}, ESP: []string{"aes256-sha256"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprintf("scripts %v", scripts), func(t *testing.T) {
			device := fmt.Sprintf("phone-%v", scripts)
			q, code, err := service.CreateRequest(t.Context(), directory.By{Name: "alice"}, enroll.NewRequest{User: "bob", Device: device})
			if err != nil {
				t.Fatal(err)
			}
			b := newChromium(t, scripts)
			b.open(server.URL + "/?request=" + q.ID.String())
			b.judge(t, "Log in", scripts)

			b.run(t, chromedp.SendKeys(chromedp.CSS("#password"), "0000-0000-0000-0000"), chromedp.Submit(chromedp.CSS("#password")), b.at("/start"))
			b.judge(t, "Log in", scripts)
			said, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("[role=alert]")))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said, "not right") {
				t.Errorf("a wrong password: %q", said)
			}

			b.run(t, chromedp.SendKeys(chromedp.CSS("#password"), strings.ToLower(code.Password.Reveal())),
				chromedp.Submit(chromedp.CSS("#password")), b.at("/consent"))
			b.judge(t, "Set up your device", scripts)
			b.run(t, chromedp.Click(chromedp.CSS("#kind-p12")), chromedp.Click(chromedp.CSS("#agree")),
				chromedp.Click(chromedp.CSS("form[action='/consent'] button")), b.at("/files"))
			b.judge(t, "Your files", scripts)
			b.download(t, device+".p12")
			b.run(t, chromedp.Click(chromedp.CSS("form[action='/leave'] button")), b.at("/leave"))
			b.judge(t, "You are logged out", scripts)
			list, err := service.Directory().Certificates(t.Context(), directory.CertificateFilter{Device: device})
			if err != nil || len(list) != 1 {
				t.Errorf("%d certificates (%v)", len(list), err)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			// The wrong password is a status that browsers log.
			for _, line := range b.complaints {
				if !strings.Contains(line, "403") && !strings.Contains(line, "favicon") {
					t.Errorf("the browser complains: %s", line)
				}
			}
		})
	}
}

// chromium is a browser with a profile of its own.
type chromium struct {
	ctx context.Context
	dir string
	t   *testing.T

	mu         sync.Mutex
	complaints []string
}

func newChromium(t *testing.T, scripts bool) *chromium {
	t.Helper()
	b := &chromium{t: t, dir: t.TempDir()}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.IgnoreCertErrors) // its profile is chromedp's, which waits for who still writes there
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	b.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	err := chromedp.Listen(b.ctx, func(e any) {
		if entry, ok := e.(*cdplog.EventEntryAdded); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.complaints = append(b.complaints, entry.Entry.Text+" "+entry.Entry.URL)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, cdplog.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *chromium) run(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func (b *chromium) open(url string) {
	b.t.Helper()
	b.run(b.t, chromedp.Navigate(url))
}

// at waits until the browser shows a path.
func (b *chromium) at(path string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		for {
			// Between two pages there is an error.
			where, err := chromedp.Run(ctx, chromedp.NavigationEntries())
			at := ""
			if err == nil {
				at = where.Entries[where.CurrentIndex].URL
			}
			if strings.HasSuffix(at, path) {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("at %q, want %s: %w", at, path, errors.Join(err, ctx.Err()))
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
}

// mustHaveNames are roles that say nothing without a name.
var mustHaveNames = map[string]bool{
	"textbox": true, "radio": true, "checkbox": true, "button": true, "link": true, "heading": true, "RootWebArea": true,
}

// judge a page as those see it who don't see it, and its colours.
func (b *chromium) judge(t *testing.T, heading string, scripts bool) {
	t.Helper()
	b.run(t, chromedp.WaitReady(chromedp.CSS("h1")))
	tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	top := ""
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role := strings.Trim(string(n.Role.Value), `"`)
		count[role]++
		name := ""
		if n.Name != nil {
			name = strings.Trim(string(n.Name.Value), `"`)
		}
		if mustHaveNames[role] && name == "" {
			t.Errorf("%s: a %s without a name", heading, role)
		}
		if role == "heading" && top == "" {
			top = name
		}
	}
	if count["main"] != 1 || count["banner"] != 1 || top != heading {
		t.Errorf("%s: heading %q, %d main, %d banner", heading, top, count["main"], count["banner"])
	}
	if !scripts {
		return
	}
	language, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.documentElement.lang`))
	if err != nil {
		t.Fatal(err)
	}
	weak, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](contrast))
	if err != nil {
		t.Fatal(err)
	}
	if language != "en" || len(weak) > 0 {
		t.Errorf("%s: language %q, too little contrast: %v", heading, language, weak)
	}
}

// contrast lists texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3).
const contrast = `(() => {
	const numbers = c => c.match(/[\d.]+/g).map(Number);
	const light = c => { const [r, g, b] = numbers(c).map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (numbers(c)[3] !== 0) return c; } return 'rgb(255, 255, 255)'; };
	const weak = [];
	for (const e of document.querySelectorAll('body *')) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
		const a = light(getComputedStyle(e).color), b = light(behind(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) weak.push(e.tagName + ' ' + ratio.toFixed(2) + ' ' + e.textContent.trim().slice(0, 20));
	}
	return weak;
})()`

// download the first file of the page.
func (b *chromium) download(t *testing.T, name string) {
	t.Helper()
	folder := filepath.Join(b.dir, "files")
	if _, err := chromedp.CallBrowser(b.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: folder,
	}); err != nil {
		t.Fatal(err)
	}
	b.run(t, chromedp.Click(chromedp.CSS("a[download]")))
	for range 600 {
		if info, err := os.Stat(filepath.Join(folder, name)); err == nil && info.Size() > 1000 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	files, err := os.ReadDir(folder)
	t.Errorf("%s did not come: %v, %v", name, files, err)
}
