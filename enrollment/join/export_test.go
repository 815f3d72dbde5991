package join

// Conforms for tests of the handler.
var Conforms = conforms
