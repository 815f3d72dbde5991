package api

import (
	"context"
)

func (s *api) servers() {
	bind(s, ServerShow, func(ctx context.Context, _ *Call, _ *None) (Server, error) {
		v := Server{
			Version: s.Version, Instance: s.Access.Instance(), Title: s.Title, Now: s.Now().UTC(), Started: s.started.UTC(), Database: s.Database, Ready: true,
		}
		if s.Ready != nil {
			for _, err := range s.Ready(ctx) {
				v.Ready, v.Trouble = false, append(v.Trouble, err.Error())
			}
		}
		return v, nil
	})
}
