package otp

import (
	"fmt"
	"strings"
)

// maxUser is the longest e-mail address, RFC 5321 section 4.5.3.1.
const maxUser = 64 + 1 + 255

// Login is what protocols with a user name and a password bring.
type Login struct {
	// ID of the request, or zero, and then User is the user's name or e-mail
	// address.
	ID   ID
	User string
	// Password; its owner erases it.
	Password Password
}

// ParseLogin reads a user name and a password as people type them. The user
// name is the ID of a request, or the user's own name or e-mail address; a name
// that could be an ID is taken for one. The password may be the whole code:
// then the user name is empty, the user's, or the same request's ID.
func ParseLogin(user, password string) (Login, error) {
	user = strings.TrimSpace(user)
	if len(user) > maxUser {
		return Login{}, ErrFormat
	}
	id, err := ParseID(user)
	named := err != nil || strings.Contains(user, "@")
	if code, err := ParseCode(password); err == nil {
		defer code.Password.Erase()
		if !named && id != code.ID {
			return Login{}, fmt.Errorf("%w: the user name is another request's ID", ErrFormat)
		}
		return Login{ID: code.ID, Password: code.Password}, nil
	}
	p, err := ParsePassword(password)
	if err != nil {
		return Login{}, err
	}
	switch {
	case !named:
		return Login{ID: id, Password: p}, nil
	case user == "":
		p.Erase()
		return Login{}, fmt.Errorf("%w: no user name", ErrFormat)
	}
	return Login{User: user, Password: p}, nil
}
