package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/roamgate/roamgate/dmlink/access"
)

func (s *api) records() {
	bind(s, AuditList, func(ctx context.Context, _ *Call, in *ListAudit) (Page[Entry], error) {
		return numbered(ctx, in.Paging, func(ctx context.Context, after int64, limit int) ([]access.Entry, error) {
			return s.Access.Audit(ctx, access.AuditFilter{
				Subject: in.Subject, Operation: in.Operation, Object: in.Object, Phase: access.Phase(in.Phase),
				Since: in.Since, Until: in.Until, Oldest: in.Oldest, After: after, Limit: limit,
			})
		}, entryOf, func(e access.Entry) int64 { return e.Number })
	})
	bind(s, AuditVerify, func(ctx context.Context, _ *Call, in *VerifyAudit) (Verified, error) {
		noted, err := hex.DecodeString(in.Hash)
		if err != nil || (in.Number == 0) != (len(noted) == 0) {
			return Verified{}, fmt.Errorf("%w: number and hash of an entry belong together", access.ErrInvalid)
		}
		n, err := s.Access.Verify(ctx, in.Number, noted)
		v := Verified{Entries: n, Intact: err == nil}
		if errors.Is(err, access.ErrBroken) {
			v.Trouble, err = err.Error(), nil
		}
		if err != nil {
			return Verified{}, err
		}
		number, hash, err := s.Access.Head(ctx)
		v.Number, v.Hash = number, hex.EncodeToString(hash)
		return v, err
	})
}

func entryOf(e access.Entry) Entry {
	return Entry{
		Number: e.Number, At: e.At, Subject: e.Subject, Source: e.Source, Operation: e.Operation, Phase: string(e.Phase), Of: e.Of,
		Object: e.Object, Detail: e.Detail, Status: e.Status, Hash: hex.EncodeToString(e.Hash),
	}
}
