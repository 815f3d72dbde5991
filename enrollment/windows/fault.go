package windows

import (
	"errors"

	"github.com/roamgate/roamgate/enrollment/enroll"
)

// fault of MS-MDE2 section 2.2.10: by its subcode, and by its type where there
// is a more exact one, Windows chooses what it shows to the user.
type fault struct {
	Subcode string
	Type    string
	Text    string
	Trace   string

	cause error // for the log
}

func (f *fault) Error() string {
	if f.cause != nil {
		return f.Text + ": " + f.cause.Error()
	}
	return f.Text
}

func (f *fault) Unwrap() error { return f.cause }

// Kinds of faults: subcode and type, as in the table of MS-MDE2.
func badFormat(text string, cause error) *fault {
	return &fault{Subcode: "s:MessageFormat", Type: "MessageFormat", Text: text, cause: cause}
}

func badSecurity(text string, cause error) *fault {
	return &fault{Subcode: "a:InvalidSecurity", Type: "InvalidSecurity", Text: text, cause: cause}
}

func badRequest(text string, cause error) *fault {
	return &fault{Subcode: "s:CertificateRequest", Type: "CertificateRequest", Text: text, cause: cause}
}

// notAuthentic is one for all secret reasons.
func notAuthentic(cause error) *fault {
	return &fault{
		Subcode: "s:Authentication", Type: "Authentication",
		Text: "user name (e-mail address or request ID) or one-time password is wrong, used or expired", cause: cause,
	}
}

func withDetail(text, detail string) string {
	if detail == "" {
		return text
	}
	return text + ": " + detail
}

// explain makes a fault of an error of package enroll.
func explain(err error) *fault {
	r := (*enroll.Refusal)(nil)
	if !errors.As(err, &r) {
		return &fault{
			Subcode: "s:EnrollmentServer", Type: "EnrollmentServer",
			Text: "the server can't decide now; try again later", cause: err,
		}
	}
	switch r.Reason {
	case enroll.Limited:
		return &fault{
			Subcode: "s:Authorization", Type: "InMaintenance",
			Text: "too many tries; try again later", cause: err,
		}
	case enroll.KeyRefused:
		return badRequest(withDetail("this key is not accepted", r.Detail), err)
	case enroll.NotRenewable:
		return &fault{
			Subcode: "s:Authorization", Type: "NotEligibleToRenew",
			Text: withDetail("this certificate can't be renewed", r.Detail), cause: err,
		}
	default:
		return notAuthentic(err)
	}
}
