// Package windows speaks what Windows has built in to enroll into device
// management: MS-MDE2, in which MS-XCEP tells the certificate policy and MS-WSTEP
// hands out the certificate, together with a document that configures the
// device.
//
//	GET  /EnrollmentServer/Discovery.svc    is there a server? an empty page
//	POST /EnrollmentServer/Discovery.svc    where the other two are
//	POST /EnrollmentServer/Policy.svc       which key to make
//	POST /EnrollmentServer/Enrollment.svc   request in, document out
//
// Windows looks at enterpriseenrollment.<domain of the e-mail address>, or where
// the user says. All users get the same answer there: nobody finds out which
// addresses exist. They log in with a UsernameToken, authentication policy
// OnPremise: e-mail address or request ID, and the one-time password (see
// otp.ParseLogin). A renewal is a PKCS #7 message signed by the present
// certificate, with or without that certificate in TLS (ROBO).
//
// Messages are SOAP 1.2 in UTF-8. They are read into a tree with bounds on size,
// depth and number, without document types, and each element that counts must
// be there once. Answers have a Content-Length and are never chunked, which
// Windows doesn't take.
//
// It is a skin of package enroll and decides nothing. A refusal is a SOAP fault
// of MS-MDE2 section 2.2.10, one and the same for everything about the password;
// its TraceId is in the log.
package windows
