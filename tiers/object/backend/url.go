package backend

import (
	"errors"
	"fmt"
	"strings"

	"zerofs/tiers/object"
)

// Scheme is the kind of store that a URL names.
type Scheme string

// The schemes.
const (
	S3     Scheme = "s3"
	File   Scheme = "file"
	Memory Scheme = "memory"
)

// Location is a parsed URL.
type Location struct {
	Scheme Scheme
	Bucket string // of s3
	Prefix string // of s3: of all keys, without slashes at its ends; may be empty
	Path   string // of file: absolute, or relative and then it begins with ./ or ../
	Name   string // of memory; may be empty
}

// bucketMax is the longest name of a bucket, in bytes.
const bucketMax = 255

// ParseURL reads the URL of a volume:
//
//	s3://bucket
//	s3://bucket/some/prefix
//	file:///absolute/path    file://./relative/path    file://../relative/path
//	memory://name
//
// Nothing in it is unescaped: a percent sign is a percent sign.
func ParseURL(url string) (Location, error) {
	scheme, rest, found := strings.Cut(url, "://")
	if !found {
		return Location{}, fmt.Errorf("object: url %q: want s3://bucket/prefix, file:///path or memory://name", url)
	}
	var loc Location
	var err error
	switch Scheme(scheme) {
	case S3:
		loc, err = parseS3(rest)
	case File:
		loc, err = parseFile(rest)
	case Memory:
		loc, err = parseMemory(rest)
	default:
		err = fmt.Errorf("scheme %q is none of s3, file, memory", scheme)
	}
	if err != nil {
		return Location{}, fmt.Errorf("object: url %q: %w", url, err)
	}
	return loc, nil
}

// String returns the URL again.
func (l Location) String() string {
	switch l.Scheme {
	case S3:
		if l.Prefix == "" {
			return "s3://" + l.Bucket
		}
		return "s3://" + l.Bucket + "/" + l.Prefix
	case File:
		return "file://" + l.Path
	default:
		return string(l.Scheme) + "://" + l.Name
	}
}

func parseS3(rest string) (Location, error) {
	bucket, prefix, _ := strings.Cut(rest, "/")
	if bucket == "" {
		return Location{}, errors.New("no bucket")
	}
	if len(bucket) > bucketMax {
		return Location{}, fmt.Errorf("bucket name of %d bytes exceeds %d", len(bucket), bucketMax)
	}
	for _, r := range bucket {
		if !bucketRune(r) {
			return Location{}, fmt.Errorf("bucket name has %q: want letters, digits, '.', '-' and '_'", r)
		}
	}
	if bucket == "." || bucket == ".." {
		return Location{}, fmt.Errorf("bucket name is %q", bucket)
	}
	prefix = strings.Trim(prefix, "/")
	if prefix != "" {
		if err := object.CheckKey(prefix); err != nil {
			return Location{}, fmt.Errorf("prefix: %w", err)
		}
	}
	return Location{Scheme: S3, Bucket: bucket, Prefix: prefix}, nil
}

func bucketRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
}

func parseFile(path string) (Location, error) {
	switch {
	case strings.ContainsRune(path, 0):
		return Location{}, errors.New("path has a zero byte")
	case strings.HasPrefix(path, "/"), strings.HasPrefix(path, "./"), strings.HasPrefix(path, "../"):
		return Location{Scheme: File, Path: path}, nil
	}
	return Location{}, errors.New("want file:///absolute/path or file://./relative/path")
}

func parseMemory(name string) (Location, error) {
	if name != "" {
		if err := object.CheckKey(name); err != nil {
			return Location{}, fmt.Errorf("name: %w", err)
		}
	}
	return Location{Scheme: Memory, Name: name}, nil
}
