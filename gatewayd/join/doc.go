// Package join is the command `gatewayd enrollment join`: the device's side of
// an enrollment, over enrollment/client and enrollment/profile.
//
// All files of a device come into being at once: a folder that is there whole,
// or not at all. Beside it, under a hidden name, lies what is needed to go on
// after a broken enrollment, from the moment at which the code may be used up
// until the folder is there.
//
// What lives here: flags, files, words for people. What doesn't: the protocol.
package join
