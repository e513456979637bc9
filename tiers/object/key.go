package object

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a key, in bytes. They are what the narrowest backend allows: S3 ends a key at 1024
// bytes, of which the volume's prefix takes its part, and a file system ends a name at 255.
const (
	KeyMax     = 512
	SegmentMax = 255
)

// CheckKey returns nil when every backend can store an object under key: UTF-8 without control
// characters, at most KeyMax bytes, in segments between '/' of 1 to SegmentMax bytes, none of
// which begins with '.' (which are the file backend's own).
func CheckKey(key string) error {
	if key == "" {
		return errors.New("empty key")
	}
	if len(key) > KeyMax {
		return fmt.Errorf("key of %d bytes exceeds %d", len(key), KeyMax)
	}
	if !utf8.ValidString(key) {
		return errors.New("key is not UTF-8")
	}
	for _, r := range key {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("key has control character %#02x", r)
		}
	}
	for seg := range strings.SplitSeq(key, "/") {
		switch {
		case seg == "":
			return errors.New("key has an empty segment")
		case seg[0] == '.':
			return fmt.Errorf("key segment %q begins with a dot", seg)
		case len(seg) > SegmentMax:
			return fmt.Errorf("key segment of %d bytes exceeds %d", len(seg), SegmentMax)
		}
	}
	return nil
}

// checkKey is CheckKey as the error of one request.
func checkKey(op, key string) error {
	if err := CheckKey(key); err != nil {
		return &Error{Op: op, Key: key, Kind: Fatal, Err: err}
	}
	return nil
}
