// Package enroll is the decision to give a device a certificate.
//
// An administrator makes a request for a device; whoever proves to know its
// one-time password, and has a key that the policy takes, gets exactly one
// certificate for it. All protocols by which a device can ask (package join for
// our own, est, scep, windows) are skins that translate octets into an
// Application and its outcome back: no policy lives there, and none of HTTP,
// SOAP or CMS lives here.
//
// The order is: limits, password, policy of keys, then one transaction of the
// directory in which the request is used up, the certificate recorded and
// others are told by the outbox. A certificate that isn't recorded never
// leaves. The same password with the same public key gets the same certificate
// again, because an answer may be lost.
package enroll
