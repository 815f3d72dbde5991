// Package syncml holds the messages of OMA Device Management 1.2: a typed
// model, the document tree that it is written to and read from, the XML syntax
// of that tree, and the digests of authentication.
//
//	octets  <-- Syntax -->  Document  <-- Decode, Message.Document -->  Message
//
// [XML] is one syntax; package wbxml has the other. Messages of DM 1.1.2 are
// understood too. What a session does with messages is not here.
//
// Specifications: OMA-TS-SyncML_RepPro-V1_2_2 (elements), OMA-TS-DM_RepPro-V1_2_1
// (their use in device management), OMA-TS-SyncML_MetaInfo-V1_2_2 (Meta),
// OMA-TS-DM_Security-V1_2_1 (authentication).
package syncml
