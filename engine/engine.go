// Package engine is what a file is: inodes, dentries and chunks in one LSM, and one commit order.
package engine
