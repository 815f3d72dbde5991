package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/delivery"
)

// deliveryFlags say how a request gets to its user.
type deliveryFlags struct {
	mail, from   string
	picture, usb string
	sms, qr      bool
	withPassword bool
}

func (d *deliveryFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&d.mail, "mail", "", "write an e-mail with the link and its QR code to this file (.eml), to be sent by you")
	flags.StringVar(&d.from, "from", "", "sender of the e-mail")
	flags.StringVar(&d.picture, "picture", "", "write the QR code of the link to this file (.png)")
	flags.StringVar(&d.usb, "usb", "", "write a text, the QR code and the root certificate to this new folder, for a USB stick")
	flags.BoolVar(&d.sms, "sms", false, "print the text of an SMS")
	flags.BoolVar(&d.qr, "qr", false, "print the QR code of the link")
	flags.BoolVar(&d.withPassword, "with-password", false, "put the one-time password into the e-mail, SMS or folder, too: who reads that can enroll")
}

func (d *deliveryFlags) any() bool {
	return d.mail != "" || d.picture != "" || d.usb != "" || d.sms || d.qr
}

// check before a request is made for something that can't be written.
func (d *deliveryFlags) check(email string) error {
	if d.mail != "" && (d.from == "" || email == "") {
		return usage("--mail needs a sender, --from, and the user's address, --email")
	}
	for _, name := range []string{d.mail, d.picture, d.usb} {
		if name == "" {
			continue
		}
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("%s is there already", name)
		}
	}
	return nil
}

// message about a request.
func message(s admin.Server, q admin.Request, url string) delivery.Message {
	m := delivery.Message{Title: s.Title, URL: url, User: q.User, Email: q.Email, Device: q.Device, Request: q.ID, Expires: q.Expires}
	if block, _ := pem.Decode([]byte(s.Root)); block != nil {
		m.Root, _ = x509.ParseCertificate(block.Bytes)
	}
	return m
}

// deliver writes and prints what was asked for. Without a flag a terminal gets
// the QR code.
func (d *deliveryFlags) deliver(c *cobra.Command, m delivery.Message, password string) error {
	if d.withPassword {
		m.Password = password
	}
	out, said := c.OutOrStdout(), c.ErrOrStderr()
	write := func(name string, mode fs.FileMode, data []byte) error {
		if err := ca.WriteFile(name, data, mode, false); err != nil {
			return err
		}
		_, err := fmt.Fprintf(said, "wrote %s\n", name)
		return err
	}
	mode := fs.FileMode(0o644)
	if m.Password != "" {
		mode = 0o600
	}
	if d.mail != "" {
		data, err := m.Mail(d.from, time.Now(), rand.Reader)
		if err != nil {
			return err
		}
		if err := write(d.mail, mode, data); err != nil {
			return err
		}
	}
	code, err := m.QR()
	if err != nil {
		return err
	}
	if d.picture != "" {
		if err := write(d.picture, 0o644, code.PNG()); err != nil {
			return err
		}
	}
	if d.usb != "" {
		files, err := m.Folder()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(d.usb, 0o755); err != nil {
			return err
		}
		for _, f := range files {
			if err := write(filepath.Join(d.usb, f.Name), f.Mode, f.Data); err != nil {
				return err
			}
		}
	}
	if d.sms {
		text, err := m.SMS()
		if err != nil {
			return err
		}
		fmt.Fprintln(out, text)
	}
	if file, ok := out.(*os.File); d.qr || !d.any() && ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(out, "\n%s", code.Blocks())
	}
	return nil
}

func (f *adminFlags) deliverCommand() *cobra.Command {
	var d deliveryFlags
	c := &cobra.Command{
		Use:   "deliver REQUEST",
		Short: "Make what carries the link of a request to its user",
		Long: `Make what carries the link of an open request to its user: an e-mail as a file, a
QR code, the text of an SMS, a folder for a USB stick. Nothing is sent.

The one-time password is known when the request is made, and never again: give
the same flags to ` + "`gatewayd enrollment request create`" + ` with --with-password to put it
into what is delivered, or better tell it another way.`,
		Example: `  gatewayd enrollment deliver 7K2M-9QXA --mail bob.eml --from it@example.com
  gatewayd enrollment deliver 7K2M-9QXA --usb /media/stick/bob
  gatewayd enrollment deliver 7K2M-9QXA --sms --qr`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.requestNames("open"),
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			if d.withPassword {
				return usage("--with-password: nobody has the password any more; give it to `gatewayd enrollment request create`")
			}
			if !d.any() {
				return usage("how? --mail, --picture, --usb, --sms or --qr")
			}
			q, err := client.Request(c.Context(), names[0])
			if err != nil {
				return err
			}
			if q.State != "open" {
				return fmt.Errorf("request %s is %s", q.ID, q.State)
			}
			if err := d.check(q.Email); err != nil {
				return err
			}
			server, err := client.Server(c.Context())
			if err != nil {
				return err
			}
			return d.deliver(c, message(server, q, server.URL+"/?request="+q.ID), "")
		}),
	}
	d.add(c)
	_ = c.Flags().MarkHidden("with-password")
	return c
}
