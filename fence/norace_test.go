//go:build !race

package fence

const raced = false
