package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/term"
	"rsc.io/qr"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// firstSteps are what an administrator of `run all` would do first: have the
// gateway on this host join, with what it is told. At a first start somebody is
// told how to enroll a device, too. It does nothing that is done already, so a
// start that was interrupted is finished by the next one.
func firstSteps(ctx context.Context, file string, cfg *config.Config, first bool, w io.Writer) error {
	m := client.Local(config.ManagerSocketOf(file))
	defer m.Close()
	known, err := client.Call(ctx, m, api.GatewayList, &api.None{})
	if err != nil {
		return fmt.Errorf("ask the manager for its gateways: %w", err)
	}
	management := &cfg.Gateway.Management
	joined := false
	for _, g := range known.Items {
		joined = joined || g.Name == management.Name
	}
	if !joined {
		if err := joinHere(ctx, m, file, cfg); err != nil {
			return err
		}
	}
	// A first start that was interrupted, or failed, said nothing of it.
	if terminal, ok := w.(*os.File); !first && ok && term.IsTerminal(int(terminal.Fd())) {
		if first, err = unused(ctx, file); err != nil {
			return err
		}
	}
	if first {
		return welcome(ctx, file, cfg, w)
	}
	return nil
}

// unused: nobody ever asked for a device's enrollment.
func unused(ctx context.Context, file string) (bool, error) {
	e, err := (&adminFlags{global: &global{config: file}}).dial()
	if err != nil {
		return false, err
	}
	defer e.Close()
	requests, err := e.Requests(ctx, "", "", "", 1)
	if err != nil {
		return false, fmt.Errorf("ask enrollment for its requests: %w", err)
	}
	certificates, err := e.Certificates(ctx, admin.CertificateFilter{Profile: string(ca.Device)}, 1)
	if err != nil {
		return false, fmt.Errorf("ask enrollment for its certificates: %w", err)
	}
	return len(requests) == 0 && len(certificates) == 0, nil
}

// self is how this program is called on a command line here.
func self() string {
	if _, err := exec.LookPath("gatewayd"); err == nil {
		return "gatewayd"
	}
	return os.Args[0]
}

// joinHere has the gateway of this host join the manager of this host.
func joinHere(ctx context.Context, m *client.Client, file string, cfg *config.Config) error {
	if err := firstContent(ctx, m, filepath.Join(filepath.Dir(file), contentFile)); err != nil {
		return fmt.Errorf("%s: %w", contentFile, err)
	}
	management := &cfg.Gateway.Management
	known, err := fingerprintOf(cfg.Path(management.Key))
	if err != nil {
		return fmt.Errorf("key of the management port: %w", err)
	}
	in := &api.AddGateway{}
	in.Body.Name, in.Body.Host, in.Body.Address = management.Name, management.Host, management.Listen.String()
	in.Body.Fingerprint = fmt.Sprintf("%x", known)
	if _, err := client.Call(ctx, m, api.GatewayAdd, in); err != nil {
		return fmt.Errorf("have gateway %s join: %w", management.Name, err)
	}
	return nil
}

// firstContent is what gateways are told before anybody decided it: what somebody
// did decide stays, also if the gateway was removed and joins again.
func firstContent(ctx context.Context, m *client.Client, file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := client.Call(ctx, m, api.GatewayExport, &api.None{})
	if err != nil {
		return err
	}
	decided, err := fleet.ReadContent(strings.NewReader(now.YAML))
	if err != nil || len(decided.Groups)+len(decided.Pools)+len(decided.Exclude)+len(decided.Settings) > 0 {
		return err
	}
	in := &api.SetContent{}
	in.Body.YAML = string(text)
	_, err = client.Call(ctx, m, api.GatewayImport, in)
	return err
}

// fingerprintOf the key in a file.
func fingerprintOf(file string) (f [sha256.Size]byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return f, err
	}
	defer clear(text)
	key, err := config.ParsePrivateKey(text)
	if err != nil {
		return f, err
	}
	return fingerprint(key.Public())
}

// firstUser and firstDevice of the request that a first start makes.
const (
	firstUser   = "first"
	firstDevice = "phone-1"
)

// welcome says how to go on.
func welcome(ctx context.Context, file string, cfg *config.Config, w io.Writer) error {
	e, err := (&adminFlags{global: &global{config: file}}).dial()
	if err != nil {
		return err
	}
	defer e.Close()
	made, err := e.CreateRequest(ctx, admin.NewRequest{User: firstUser, Device: firstDevice})
	if err != nil {
		return fmt.Errorf("make a request for a first device: %w", err)
	}
	named := ""
	if file != config.SystemFile {
		named = " --config " + file
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `Roamgate runs on this host: gateway, enrollment and device management, for evaluation
and small sites. Whoever takes over this host has the CA.

The first device, %[1]s, enrolls
  with a browser        %[2]s
  with strongSwan or    gatewayd enrollment join --server %[3]s
  another Linux client  and the code %[4]s
  one-time password     %[5]s   (shown this once)

`, firstDevice, made.URL, cfg.Enrollment.Host(), made.Code, made.Password)
	if err := drawQR(&b, made.URL); err != nil {
		return err
	}
	fmt.Fprintf(&b, `
Then: %[4]s gateway list%[1]s
      %[4]s gateway sessions%[1]s
      %[4]s device list%[1]s
      %[4]s enrollment request create --user bob --device phone-2%[1]s

API of device management: https://%[2]s%[3]s
`, named, reachable(cfg.Manager.Admin.Listen.AddrPort), api.OpenAPIPath, self())
	_, err = w.Write(b.Bytes())
	return err
}

// drawQR draws a QR code for terminals: two modules in a character, light on dark.
func drawQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return fmt.Errorf("QR code of %q: %w", text, err)
	}
	const quiet = 2 // modules around it
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			// Outside of the code Black is false.
			switch upper, lower := code.Black(x, y), code.Black(x, y+1); {
			case upper && lower:
				b.WriteString(" ")
			case upper:
				b.WriteString("▄")
			case lower:
				b.WriteString("▀")
			default:
				b.WriteString("█")
			}
		}
		b.WriteString("\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}
