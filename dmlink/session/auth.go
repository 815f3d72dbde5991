package session

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// maxTries is how often a device may show credentials in one session, and how
// often we show ours.
const maxTries = 2

// nonceOctets of our nonces; maxNonce is the longest of a device.
const (
	nonceOctets = 16
	maxNonce    = 128
)

// authState of both directions.
type authState struct {
	// accepted: the device has proven who it is.
	accepted bool
	tries    int
	// nonce that the device shall use next. After a challenge it is this
	// session's own, not the stored one: a stranger who fails doesn't spoil that.
	nonce []byte
	// trusted: the device has accepted a header of ours. weAccepted: for the
	// session, so that we needn't show credentials again.
	trusted, weAccepted bool
	weTries             int
}

func (s *Session) freshNonce() ([]byte, error) {
	nonce := make([]byte, nonceOctets)
	if _, err := io.ReadFull(s.cfg.Rand, nonce); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	return nonce, nil
}

// authenticate returns the status of the device's header and a challenge
// (OMA-TS-DM_Security-V1_2_1 section 5). It has failed unless auth.accepted.
func (s *Session) authenticate(ctx context.Context, in Input) (int, *syncml.Chal, error) {
	h := &in.Message.Header
	switch s.account.Scheme {
	case Certificate:
		// One that sends credentials as well wants to hear that it needn't.
		if h.Cred != nil {
			return syncml.StatusAuthenticated, nil, nil
		}
		return syncml.StatusOK, nil, nil
	case MD5:
		if s.auth.accepted {
			return syncml.StatusAuthenticated, nil, nil
		}
		shown := h.Cred != nil
		right := shown && h.Cred.Meta.Type == syncml.AuthMD5 && (h.Source.Name == "" || h.Source.Name == s.account.Name) &&
			syncml.VerifyMD5(h.Cred.Data, s.account.Name, s.account.Password, s.auth.nonce)
		return s.judge(ctx, syncml.AuthMD5, shown, right)
	case HMAC:
		shown := in.MAC != ""
		mac, err := syncml.ParseMAC(in.MAC)
		right := shown && err == nil && mac.Verify(s.account.Name, s.account.Password, s.auth.nonce, in.Octets)
		return s.judge(ctx, syncml.AuthMAC, shown, right)
	}
	return 0, nil, fmt.Errorf("%w: scheme %d of %s", ErrNoAccount, s.account.Scheme, s.device)
}

// judge a try of the device.
func (s *Session) judge(ctx context.Context, scheme string, shown, right bool) (int, *syncml.Chal, error) {
	next, err := s.freshNonce()
	if err != nil {
		return 0, nil, err
	}
	chal := &syncml.Chal{Meta: syncml.Meta{Format: "b64", Type: scheme, NextNonce: next}}
	if right {
		// The next nonce is for the next session, with HMAC for the next message.
		// The stored one goes, even if this session had one of its own.
		err := s.cfg.Accounts.UseNonce(ctx, s.device, s.account.Nonce, next)
		if err == nil {
			s.account.Nonce, s.auth.nonce, s.auth.accepted, s.auth.tries = next, next, true, 0
			if scheme == syncml.AuthMAC {
				return syncml.StatusOK, chal, nil
			}
			return syncml.StatusAuthenticated, chal, nil
		}
		if !errors.Is(err, ErrNonceUsed) {
			return 0, nil, fmt.Errorf("replacing the nonce of %s: %w", s.device, err)
		}
		account, err := s.cfg.Accounts.Account(ctx, s.device)
		if err != nil {
			return 0, nil, fmt.Errorf("account of %s: %w", s.device, err)
		}
		s.account.Erase()
		s.account = account
	}
	s.auth.accepted = false
	code := syncml.StatusInvalidCredentials
	if !shown {
		code = syncml.StatusMissingCredentials
	}
	if s.auth.tries++; s.auth.tries >= maxTries {
		return code, nil, nil
	}
	s.auth.nonce = next
	return code, chal, nil
}

// serverCred is our Cred, nil if the device hasn't asked for one and isn't known
// to.
func (s *Session) serverCred() *syncml.Cred {
	if s.account.Scheme == HMAC || len(s.account.ServerPassword) == 0 || s.auth.weAccepted {
		return nil
	}
	return &syncml.Cred{
		Meta: syncml.Meta{Format: "b64", Type: syncml.AuthMD5},
		Data: syncml.DigestMD5(s.account.ServerName, s.account.ServerPassword, s.account.ServerNonce),
	}
}

// serverMAC over our octets, empty if we have none to show.
func (s *Session) serverMAC(octets []byte) string {
	if s.account.Scheme != HMAC || len(s.account.ServerPassword) == 0 {
		return ""
	}
	return syncml.NewMAC(s.account.ServerName, s.account.ServerPassword, s.account.ServerNonce, octets).String()
}

// headerStatus takes what the device says of our header. It returns false if the
// device doesn't believe us and there is nothing more that we could show.
func (s *Session) headerStatus(ctx context.Context, st *syncml.Status) (bool, error) {
	if st.Chal != nil && len(s.account.ServerPassword) > 0 && len(st.Chal.Meta.NextNonce) <= maxNonce {
		s.account.ServerNonce = st.Chal.Meta.NextNonce
		if err := s.cfg.Accounts.ServerNonce(ctx, s.device, s.account.ServerNonce); err != nil {
			return false, fmt.Errorf("keeping our nonce toward %s: %w", s.device, err)
		}
	}
	switch st.Code {
	case syncml.StatusAuthenticated:
		s.auth.weAccepted, s.auth.trusted = true, true
	case syncml.StatusInvalidCredentials, syncml.StatusMissingCredentials:
		// Nothing of our message was executed, and no once-only command was in it
		// if we can go on: see held.
		s.auth.weAccepted = false
		if s.auth.weTries++; len(s.account.ServerPassword) == 0 || s.auth.weTries >= maxTries || st.Chal == nil {
			for _, f := range s.flights {
				f.refused(st.Code)
			}
			return false, nil
		}
		s.forget()
	default:
		if st.Code >= 200 && st.Code < 300 {
			s.auth.trusted = true
		}
	}
	return true, nil
}
