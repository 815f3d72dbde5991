package admit

import "crypto/x509"

// LoseRoots leaves a policy what it remembers of signatures: nothing can be
// verified by it any more.
func (p *Policy) LoseRoots() { p.roots = x509.NewCertPool() }

// Revoke adds a list to a policy that has decided already.
func (p *Policy) Revoke(list *x509.RevocationList) error {
	p.revocation = true
	return p.addRevocationList(list)
}

// Remembered is how many paths and issuers a policy remembers.
func (p *Policy) Remembered() (paths, issuers int) {
	return len(p.seen.recent.paths) + len(p.seen.past.paths), len(p.seen.recent.issuers)
}
