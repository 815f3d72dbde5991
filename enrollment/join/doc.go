// Package join is our own enrollment protocol: JSON over TLS 1.3, three
// messages and their answers. A device comes with a code that it got another
// way (package otp) and trusts nothing else: no name, no certificate, no
// network. It leaves with a certificate, the root that it trusts from now on,
// and a configuration.
//
//	device                                                server
//	  POST /join/discover   versions, request, nonce, MAC ->
//	       <- names of the servers that know the request, a MAC each
//	  POST /join/trust      versions, request, nonce      ->
//	       <- version, nonce, instance, server, root, chain, MAC 1
//	  POST /join/certificate   the same, CSR, MAC 2       ->
//	       <- certificate, chain, configuration, renewal time, MAC 3
//
// Discovery is only for a device that doesn't know its server. The second and
// the third message travel on one connection.
//
// Every MAC is HMAC-SHA-256 over the transcript: all that both sides have said
// until then, and the channel binding of the connection (tls-exporter, RFC
// 9266). Its key is derived with a label of its own, so that no MAC can be sent
// back or used in another place: MAC 1 and those of discovery from the key of
// the request (otp.Password.Key), MAC 2 and 3 from that key bound to the public
// key of the device (otp.Bind).
//
// The TLS certificate of the server says nothing to the device. Binding to the
// connection was taken instead of pinning that certificate (tls-server-end-point,
// RFC 5929): it also refuses a man in the middle who has the certificate's key,
// it makes a message worthless on any other connection, and nothing has to be
// configured when the certificate changes. The price is that TLS has to end in
// the enrollment server: whoever publishes it passes TCP through.
//
// The server keeps nothing between the messages. Its nonce is a function of
// what the device sent and of the connection, so the third message repeats what
// the second one said and the server derives the transcript again.
//
// An answer that got lost is asked for again on a new connection, from
// /join/trust on and with the same key; the certificate is the same. The server
// has erased the key of the request by then and has only what it was bound to,
// so MAC 1 is none that the device can verify. It goes on nevertheless, if the
// root is the one that it verified before: MAC 2 gives away nothing, and MAC 3
// shows who has answered.
//
// What lives here: messages, transcript, MACs, and the handler that translates
// between them and enroll.Application. What doesn't: any policy; the client
// (package client); who is asked for a request (package discovery).
package join
