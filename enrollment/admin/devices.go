package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/roamgate/roamgate/enrollment/directory"
)

// DevicePath names a device.
type DevicePath struct {
	Name string `path:"name" maxLength:"64"`
}

func (s *server) devices(api huma.API) {
	type list struct {
		Paging
		User  string `query:"user" maxLength:"64"`
		Group string `query:"group" maxLength:"64"`
	}
	huma.Register(api, operation(http.MethodGet, "/v1/devices", "list-devices", "List devices", "devices"),
		func(ctx context.Context, in *list) (*body[Page[Device]], error) {
			found, err := s.Directory.Devices(ctx, directory.DeviceFilter{
				User: in.User, Group: in.Group, After: in.After, Limit: in.Limit + 1,
			})
			if err != nil {
				return nil, s.problem(err)
			}
			return &body[Page[Device]]{pageOf(found, in.Limit, deviceOf, func(d directory.Device) string { return d.Name })}, nil
		})
	huma.Register(api, operation(http.MethodGet, "/v1/devices/{name}", "show-device", "Show a device", "devices"),
		func(ctx context.Context, in *DevicePath) (*body[Device], error) { return s.device(ctx, in.Name) })
	huma.Register(api, operation(http.MethodPost, "/v1/devices/{name}/close", "close-device",
		"Revoke what a device has and let it not come again without a new request", "devices"),
		func(ctx context.Context, in *struct {
			DevicePath
			Body Revocation
		}) (*body[Device], error) {
			reason, err := reasonOf(in.Body.Reason)
			if err != nil {
				return nil, err
			}
			if err := s.Service.CloseDevice(ctx, by(ctx), in.Name, reason); err != nil {
				return nil, s.problem(err)
			}
			return s.device(ctx, in.Name)
		})
	huma.Register(api, operation(http.MethodGet, "/v1/users", "list-users", "List users", "users"),
		func(ctx context.Context, in *Paging) (*body[Page[User]], error) {
			found, err := s.Directory.Users(ctx, in.After, in.Limit+1)
			if err != nil {
				return nil, s.problem(err)
			}
			return &body[Page[User]]{pageOf(found, in.Limit, func(u directory.User) User { return User(u) },
				func(u directory.User) string { return u.Name })}, nil
		})
	huma.Register(api, operation(http.MethodGet, "/v1/groups", "list-groups", "List groups of devices", "users"),
		func(ctx context.Context, in *Paging) (*body[Page[string]], error) {
			found, err := s.Directory.Groups(ctx, in.After, in.Limit+1)
			if err != nil {
				return nil, s.problem(err)
			}
			same := func(name string) string { return name }
			return &body[Page[string]]{pageOf(found, in.Limit, same, same)}, nil
		})
}

func (s *server) device(ctx context.Context, name string) (*body[Device], error) {
	d, err := s.Directory.Device(ctx, name)
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[Device]{deviceOf(d)}, nil
}

func deviceOf(d directory.Device) Device {
	return Device{Name: d.Name, User: d.User, Groups: listed(d.Groups), Open: d.Open, Created: d.Created, Closed: d.Closed}
}
