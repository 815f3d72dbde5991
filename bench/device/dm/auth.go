package dm

import (
	"fmt"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// cred is ours, nil if it isn't asked for.
func (r *run) cred() *syncml.Cred {
	a := r.cfg.Account
	if a.Scheme != session.MD5 || r.authenticated {
		return nil
	}
	return &syncml.Cred{
		Meta: syncml.Meta{Format: "b64", Type: syncml.AuthMD5},
		Data: syncml.DigestMD5(a.Name, a.Password, a.Nonce),
	}
}

// checkMAC of the server's octets.
func (r *run) checkMAC(header string, octets []byte) {
	a := r.cfg.Account
	if a.Scheme != session.HMAC || len(a.ServerPassword) == 0 {
		return
	}
	mac, err := syncml.ParseMAC(header)
	r.believed = err == nil && mac.Verify(a.ServerName, a.ServerPassword, a.ServerNonce, octets)
}

// serverHeader checks the server's credentials and returns the status of its
// header, with a challenge or the next nonce.
func (r *run) serverHeader(h *syncml.Header) (int, *syncml.Chal) {
	a := r.cfg.Account
	if len(a.ServerPassword) == 0 {
		return syncml.StatusOK, nil
	}
	scheme := syncml.AuthMAC
	accepted := syncml.StatusOK
	if a.Scheme != session.HMAC {
		scheme, accepted = syncml.AuthMD5, syncml.StatusAuthenticated
		if r.believed {
			return accepted, nil
		}
		r.believed = h.Cred != nil && syncml.VerifyMD5(h.Cred.Data, a.ServerName, a.ServerPassword, a.ServerNonce)
	}
	next := freshNonce()
	chal := &syncml.Chal{Meta: syncml.Meta{Format: "b64", Type: scheme, NextNonce: next}}
	r.nextNonce = next
	if r.believed {
		return accepted, chal
	}
	r.doubts++
	if h.Cred == nil && scheme == syncml.AuthMD5 {
		return syncml.StatusMissingCredentials, chal
	}
	return syncml.StatusInvalidCredentials, chal
}

// headerStatus takes what the server says of our header. True: we have to begin
// again with other credentials.
func (r *run) headerStatus(st *syncml.Status) (bool, error) {
	a := r.cfg.Account
	if st.Chal != nil {
		a.Nonce = st.Chal.Meta.NextNonce
	}
	switch st.Code {
	case syncml.StatusAuthenticated:
		r.authenticated = true
	case syncml.StatusOK:
	case syncml.StatusInvalidCredentials, syncml.StatusMissingCredentials:
		if r.tries++; st.Chal == nil || a.Scheme == session.Certificate || r.tries > 1 {
			return false, fmt.Errorf("%w: the server says %d", ErrAuthentication, st.Code)
		}
		return true, nil
	default:
		return false, fmt.Errorf("%w: status %d of our header", ErrServer, st.Code)
	}
	return false, nil
}
