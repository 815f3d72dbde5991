// Package wbxml is the binary syntax of SyncML documents, WAP Binary XML 1.1 to
// 1.3 (WAP-192), media type application/vnd.syncml.dm+wbxml.
//
// It reads string tables, inline and opaque data, literal tags and public
// identifiers in either form; the character set is UTF-8. It refuses what
// SyncML has no use for: attributes, extensions, processing instructions. It
// writes WBXML 1.2 without a string table, in the tokens of the two code pages
// of SyncML 1.1 and 1.2: the representation protocol and MetInf.
package wbxml
