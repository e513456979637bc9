// Package backend opens the object store that a URL names.
package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/file"
	"zerofs/tiers/object/s3"
)

// Options is what the backends need beside the URL.
type Options struct {
	// S3 is how to reach a bucket; Bucket and Prefix are taken from the URL.
	S3 s3.Options

	// Now is the clock of file:// and memory:// stores; required.
	Now func() time.Time
}

// memories holds the stores of memory:// URLs for the life of the process, so that a volume which
// is opened again finds what it left.
var memories struct {
	sync.Mutex
	byName map[string]*object.Memory
}

// Open returns the store that url names, see ParseURL. It counts its requests (object.CountsOf)
// and makes each of them once: object.Hedge and object.Retry go on top, in this order. For a
// bucket it makes no request yet: object.Probe tells whether it can be used. The caller ends with
// object.Close.
func Open(ctx context.Context, url string, opts Options) (object.Store, error) {
	loc, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	switch loc.Scheme {
	case S3:
		opts.S3.Bucket, opts.S3.Prefix = loc.Bucket, loc.Prefix
		s, err := s3.Open(ctx, opts.S3)
		if err != nil {
			return nil, err
		}
		return s, nil
	case File:
		s, err := file.Open(loc.Path, opts.Now)
		if err != nil {
			return nil, err
		}
		return object.Count(s), nil
	case Memory:
		return object.Count(memory(loc.Name, opts.Now)), nil
	}
	return nil, errors.New("object: no backend for " + loc.String())
}

// memory returns the memory store of a name, which is made when it is first asked for.
func memory(name string, now func() time.Time) *object.Memory {
	memories.Lock()
	defer memories.Unlock()
	m := memories.byName[name]
	if m == nil {
		if memories.byName == nil {
			memories.byName = map[string]*object.Memory{}
		}
		m = object.NewMemory(now)
		memories.byName[name] = m
	}
	return m
}
