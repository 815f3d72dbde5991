package discovery

import (
	"errors"
	"fmt"
	"strings"
)

// ErrAddress: not an e-mail address with a domain.
var ErrAddress = errors.New("not an e-mail address")

// prefixes of the published names, in the order in which they are tried. The
// second one is what Windows looks for (MS-MDE2 section 3.1).
var prefixes = []string{"mobileenroll.", "enterpriseenrollment."}

// Names under which the enrollment server of an e-mail address may be
// published, the first one to be tried first.
func Names(email string) ([]string, error) {
	local, domain, found := strings.Cut(strings.TrimSpace(email), "@")
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	longest := len(prefixes[1]) + len(domain)
	if !found || local == "" || longest > 253 || !isDomain(domain) {
		return nil, fmt.Errorf("%w: %q, want NAME@DOMAIN", ErrAddress, email)
	}
	var names []string
	for _, p := range prefixes {
		names = append(names, p+domain)
	}
	return names, nil
}

// isDomain of ASCII labels (RFC 1123 section 2.1), an internationalized name in
// its A-labels.
func isDomain(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, b := range []byte(label) {
			if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' {
				return false
			}
		}
	}
	return true
}
