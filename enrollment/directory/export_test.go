package directory

// Tables are for tests of versions.
var Tables = tables
