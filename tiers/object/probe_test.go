package object_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

// deaf is a store that ignores conditions in some way.
type deaf struct {
	object.Store
	put func(ctx context.Context, key string, body object.Body, opts object.PutOptions) (object.Info, error)
}

func (d deaf) Put(ctx context.Context, key string, body object.Body, opts object.PutOptions) (object.Info, error) {
	return d.put(ctx, key, body, opts)
}

func random() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func TestProbe(t *testing.T) {
	f := objecttest.NewFaulty(1, nil)
	for range 2 {
		if err := object.Probe(t.Context(), f, random()); err != nil {
			t.Fatal(err)
		}
	}
	if keys := f.Bucket().Keys(); len(keys) != 0 {
		t.Errorf("left %q", keys)
	}
}

func TestProbeRefuses(t *testing.T) {
	f := objecttest.NewFaulty(1, nil)
	for name, s := range map[string]object.Store{
		"ignores the condition": deaf{f, func(ctx context.Context, key string, b object.Body, _ object.PutOptions) (object.Info, error) {
			return f.Put(ctx, key, b, object.PutOptions{})
		}},
		"says exists but overwrites": deaf{f, func(ctx context.Context, key string, b object.Body, opts object.PutOptions) (object.Info, error) {
			info, err := f.Put(ctx, key, b, opts)
			if errors.Is(err, object.ErrExists) {
				f.Put(ctx, key, b, object.PutOptions{})
			}
			return info, err
		}},
		"always says exists": deaf{f, func(_ context.Context, key string, _ object.Body, _ object.PutOptions) (object.Info, error) {
			return object.Info{}, &object.Error{Op: object.OpPut, Key: key, Kind: object.Exists}
		}},
	} {
		if err := object.Probe(t.Context(), s, random()); !errors.Is(err, object.ErrNoIfAbsent) {
			t.Errorf("a store which %s: %v", name, err)
		}
	}
}

func TestProbeReportsTheStoresError(t *testing.T) {
	f := objecttest.NewFaulty(1, nil)
	f.SetBefore(func(_ context.Context, r objecttest.Request) error {
		return &object.Error{Op: r.Op, Key: r.Key, Kind: object.Denied}
	})
	if err := object.Probe(t.Context(), f, random()); !errors.Is(err, object.ErrDenied) {
		t.Error(err)
	}
}

func TestProbeUnderFaults(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			f := objecttest.NewFaulty(seed, time.Now)
			f.SetFaults(objecttest.Faults{Fail: 0.2, Lose: 0.1, Late: 0.05, LateMax: time.Second, LatencyMax: 50 * time.Millisecond})
			if err := object.Probe(t.Context(), f, rand.NewChaCha8([32]byte{byte(seed)})); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := objecttest.NewFaulty(1, time.Now)
		f.SetOutage(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := object.Probe(ctx, f, random()); !errors.Is(err, objecttest.ErrOutage) {
			t.Errorf("in an outage: %v", err)
		}
	})
}
