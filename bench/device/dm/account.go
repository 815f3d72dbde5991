package dm

import (
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

// Bootstrap puts a device's account with a server into its tree, as enrollment's
// configuration says it. The server is the one that writes its credentials there;
// from then on the account has them, and notifications are believed. Nobody gets
// them out again.
func Bootstrap(t *tree.Tree, server, url string, a *Account, now time.Time) {
	// OMA-TS-DM_StdObj-V1_2_1 section 5.3.
	root := "./SyncML/DMAcc/" + server
	chr := func(value string) tree.Node { return tree.Node{Value: tree.Value{Data: []byte(value)}} }
	t.Put(root+"/AppID", chr("w7"), now)
	t.Put(root+"/ServerID", chr(server), now)
	t.Put(root+"/AppAddr/Server/Addr", chr(url), now)
	written := func(take func(data []byte)) tree.Node {
		return tree.Node{Verbs: []syncml.Verb{syncml.Replace}, OnChange: func(v tree.Value) int {
			take(append([]byte(nil), v.Data...))
			return syncml.StatusOK
		}}
	}
	credentials := root + "/AppAuth/Server"
	t.Put(credentials+"/AAuthLevel", chr("SRVCRED"), now)
	t.Put(credentials+"/AAuthName", written(func(b []byte) { a.ServerName = string(b) }), now)
	t.Put(credentials+"/AAuthSecret", written(func(b []byte) { a.ServerPassword = b }), now)
	t.Put(credentials+"/AAuthData", written(func(b []byte) { a.ServerNonce = b }), now)
}
