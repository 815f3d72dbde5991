package otp

import (
	"fmt"
	"strings"
)

// maxUser is the longest e-mail address, RFC 5321 section 4.5.3.1.
const maxUser = 64 + 1 + 255

// Login is what protocols with a user name and a password bring.
type Login struct {
	// ID of the request, or zero. User is the user's name or e-mail address, or
	// empty. Both are set where the name may be meant as either: eight letters as
	// of "margaret" are a valid ID.
	ID   ID
	User string
	// Password; its owner erases it.
	Password Password
}

// ParseLogin reads a user name and a password as people type them. The user
// name is the ID of a request, or the user's own name or e-mail address. The
// password may be the whole code: then that alone says which request it is,
// whatever the user name is.
func ParseLogin(user, password string) (Login, error) {
	user = strings.TrimSpace(user)
	if len(user) > maxUser {
		return Login{}, ErrFormat
	}
	if code, err := ParseCode(password); err == nil {
		return Login{ID: code.ID, Password: code.Password}, nil
	}
	if user == "" {
		return Login{}, fmt.Errorf("%w: no user name", ErrFormat)
	}
	p, err := ParsePassword(password)
	if err != nil {
		return Login{}, err
	}
	l := Login{User: user, Password: p}
	if id, err := ParseID(user); err == nil {
		l.ID = id
	}
	return l, nil
}
