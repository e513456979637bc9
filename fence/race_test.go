//go:build race

package fence

// raced says that the tests run under the race detector, where the model, which has one goroutine
// for each configuration and takes long as it is, is left out.
const raced = true
