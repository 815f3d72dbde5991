package windows

import (
	"net/http"
	"strconv"
)

// minKeyLength of RSA in bits, as the policy tells; what is taken is said by
// package enroll.
const minKeyLength = 2048

type discovered struct{ Version, Policy, Enrollment string }

// discover answers MS-MDE2 section 3.1.4.1. Whose address is asked about makes
// no difference.
func (s *server) discover(_ *http.Request, e *envelope) (string, answer, error) {
	// Examples of Microsoft's have the namespace with a slash at its end.
	space := e.body.name.Space
	if e.action != actionDiscover || e.body.name.Local != "Discover" || space != nsDiscovery && space != nsDiscovery+"/" {
		return "", answer{}, badFormat("a Discover message is expected here", nil)
	}
	request := e.body.child(space, "request")
	if policies := request.child(space, "AuthPolicies"); policies != nil && !offers(policies, "OnPremise") {
		return "", answer{}, &fault{
			Subcode: "s:Authorization", Type: "NotSupported",
			Text: "the device doesn't offer the authentication policy OnPremise",
		}
	}
	d := discovered{
		Version:    "3.0",
		Policy:     s.URL.JoinPath(Root, "Policy.svc").String(),
		Enrollment: s.URL.JoinPath(Root, "Enrollment.svc").String(),
	}
	if v, err := strconv.ParseFloat(request.child(space, "RequestVersion").value(), 64); err == nil && v >= 4 {
		d.Version = "4.0"
	}
	return "discovered", answer{Action: actionDiscovered, Body: d}, nil
}

func offers(policies *element, policy string) bool {
	for _, p := range policies.children {
		if p.value() == policy {
			return true
		}
	}
	return false
}

type policy struct {
	Validity, Renewal int64 // seconds
	KeyLength         int   // bits
}

// policies answers MS-XCEP section 3.1.4.1 as changed by MS-MDE2 section 3.3:
// RSA and SHA-256. It is nothing secret, so the login that comes with it is left
// alone: asked here, a wrong password would count twice.
func (s *server) policies(_ *http.Request, e *envelope) (string, answer, error) {
	if e.action != actionPolicies || e.body.name.Local != "GetPolicies" || e.body.name.Space != nsPolicy {
		return "", answer{}, badFormat("a GetPolicies message is expected here", nil)
	}
	return "policies", answer{Action: actionPoliciesReply, Body: policy{
		Validity: int64(s.Lifetime.Seconds()), Renewal: int64(s.RenewBefore.Seconds()), KeyLength: minKeyLength,
	}}, nil
}
