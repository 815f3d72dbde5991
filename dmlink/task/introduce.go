package task

import (
	"crypto/rand"
	"fmt"

	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// introductionKind of the task that tells a device how to know our notifications.
const introductionKind = "introduction"

// accountRoot is where a device has its account with a server, by the server's
// name (OMA-TS-DM_StdObj-V1_2_1 section 5.3), and below that what the server is
// known by.
func accountRoot(server string) string { return "./SyncML/DMAcc/" + schedule.EscapeName(server) }

// ServerCredentials below an account's root: AAuthName, AAuthSecret and AAuthData,
// the nonce.
const ServerCredentials = "/AppAuth/Server"

// Introduce makes the account of a device that comes by certificate, with a secret
// by which it knows our notifications, and the task that tells the device. That
// goes through a session in which both have shown certificates. Who has the secret
// can wake the device, and nothing else.
func (d *Desk) Introduce(v store.Device) (*session.Account, store.Task) {
	now := d.now()
	a := &session.Account{
		Scheme: session.Certificate, ServerName: d.provider, ServerPassword: []byte(rand.Text()),
		// Printable, because messages in XML carry it as it is.
		ServerNonce: []byte(rand.Text()[:16]),
	}
	g := &syncml.Group{Atomic: true}
	for _, n := range []struct {
		name, format string
		value        []byte
	}{{"AAuthName", "chr", []byte(a.ServerName)}, {"AAuthSecret", "chr", a.ServerPassword}, {"AAuthData", "bin", a.ServerNonce}} {
		g.Commands = append(g.Commands, &syncml.Op{Verb: syncml.Replace, Items: []syncml.Item{{
			Target: syncml.Location{URI: accountRoot(d.provider) + ServerCredentials + "/" + n.name},
			Meta:   syncml.Meta{Format: n.format}, Data: n.value, HasData: true,
		}}})
	}
	return a, store.Task{
		ID: fmt.Sprintf("%s-%s-%d", introductionKind, v.Name, v.Enrolled.UnixMicro()), Kind: introductionKind,
		Created: now, By: "manager", Expires: now.Add(longest), Urgency: -9, Command: g,
	}
}
