// Package profile makes what a device imports to become a client of a gateway:
// typed settings in, the octets of files out. It reads no file, no clock and no
// network; randomness for PKCS#12 comes in. One exception: the library that
// signs .mobileconfig files reads the clock for the signing time.
//
// What each client can take of the settings. Whatever it can't is a note of the
// bundle, or an error where leaving it out would be dangerous.
//
//	                   strongswan       sswan            android        apple            windows
//	                   (swanctl)        (app, import)    (app, managed) (iOS, macOS)     (VPNv2)
//	several gateways   a connection     a file for each  a profile for  a payload for    Servers, tried
//	                   for each         one              each one       each one         in turn
//	proposals          all              the first it     the first it   the first it     the first it
//	                                    knows            knows          knows            knows
//	company networks   traffic          yes              yes            the gateway      routes
//	                   selectors                                        tells them
//	DNS servers        from the gateway yes              yes            with domains     with domains
//	internal domains   no               no               no             yes              yes
//	proxy              no               no               yes            yes              full tunnel only
//	proxy script (PAC) no               no               no             yes              full tunnel only
//	proxy exceptions   no               no               yes            no, use a script full tunnel only
//	always connected   yes              system setting   system setting on demand, all   yes
//	                                    of Android       of Android     networks
//	on demand          trap policies    no               no             domains, or all  domains
//	trusted networks   no               no               no             yes              yes
//	MTU                no               1280..1500       1280..1500     1280..1400       no
//	QR code            no               of the file's    no             of the file's    no
//	                                    URL                             URL
//
// Android's own IKEv2 client (Android 11 and later) has no file that can be
// imported: kinds sswan and android are for the strongSwan app. The former is
// its profile file, the latter adds the managed configuration that a device
// management system gives to the app.
//
// Re-issued profiles replace older ones: identifiers are derived from the device
// and the instance (RFC 9562 section 5.5).
//
// A PKCS#12 container (RFC 7292) inside or beside a profile has a password,
// which is in none of the files: whoever delivers them sends it another way.
// Apple and Android read old containers only (3DES, few rounds), where all
// depends on the password; hence MinLegacyPassword.
//
// What doesn't live here: issuing certificates, and any decision of what a
// device may have.
package profile
