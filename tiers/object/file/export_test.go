package file

// Failed is failed, for tests.
var Failed = failed
