// Package config is the typed form of gatewayd.yaml: [Default], then [Load]
// over it, then [Config.Build].
//
// Load decodes and validates. It reports everything that is wrong at once, each
// with file, line, key, what stands there and what was expected; a key that
// nobody knows is an error. Build reads the certificates, keys and revocation
// lists that the file names and makes the settings of package session.
//
// What lives here: keys, their defaults and limits, the sample file. What
// doesn't: anything that touches the machine; that is below the line in
// `gatewayd run`.
package config
