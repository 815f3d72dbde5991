// Package enrollclients lets enrollment clients that we did not write enroll
// and renew at the real service: strongSwan's pki for EST and SCEP, curl with
// openssl for EST, the SCEP clients of micromdm and certmonger. Each talks to a
// server in this process over a loopback address; there is nothing here but
// tests.
package enrollclients
