package directory

// Migrator is for tests of versions.
var Migrator = migrator
