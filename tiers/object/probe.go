package object

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ErrNoIfAbsent reports a store that does not honour put-if-absent. Two hosts could write a
// volume there, so it is not used.
var ErrNoIfAbsent = errors.New("object: the store does not honour put-if-absent (If-None-Match: *), which keeps a second host from writing the volume")

const (
	probePrefix = "probe/"
	probeRivals = 4
	probePause  = 100 * time.Millisecond
)

// Probe checks that the store honours put-if-absent: of racing puts of one key one wins, a later
// one is refused, and the winner's bytes stay. It returns ErrNoIfAbsent when not, and the store's
// own error when it cannot tell; transient ones it tries again until ctx ends. random is the
// source of the key's name. What it put is deleted again; when answers were lost on the way, a few
// bytes under probe/ may stay.
func Probe(ctx context.Context, store Store, random io.Reader) error {
	var last error // of an attempt that the end of ctx did not cut short
	for {
		err := probeOnce(ctx, store, random)
		if err == nil || !errors.Is(err, ErrTransient) || errors.Is(err, ErrNoIfAbsent) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if ctx.Err() != nil || !Pause(ctx, probePause) {
			return fmt.Errorf("object: probe for put-if-absent: %w; the last attempt: %w", ctx.Err(), last)
		}
	}
}

// probeOnce does what Probe says on one new key.
func probeOnce(ctx context.Context, store Store, random io.Reader) error {
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return fmt.Errorf("object: probe: random name: %w", err)
	}
	key := probePrefix + hex.EncodeToString(id[:])
	winner, err := probeRace(ctx, store, key)
	if err == nil {
		err = probeAgain(ctx, store, key, winner)
	}
	if deleted := store.Delete(ctx, key); err == nil && deleted != nil {
		return fmt.Errorf("object: probe: clean-up: %w", deleted)
	}
	return err
}

// probeBody is what the i-th rival puts.
func probeBody(i int) []byte { return fmt.Appendf(nil, "put-if-absent probe %d", i) }

// probeRace puts key from several goroutines and returns who won, -1 when an answer was lost.
func probeRace(ctx context.Context, store Store, key string) (int, error) {
	var errs [probeRivals]error
	var wg sync.WaitGroup
	for i := range probeRivals {
		wg.Go(func() {
			_, errs[i] = store.Put(ctx, key, bytes.NewReader(probeBody(i)), PutOptions{IfAbsent: true})
		})
	}
	wg.Wait()
	winner, wins := -1, 0
	var unknown error
	for i, err := range errs {
		switch {
		case err == nil:
			winner = i
			wins++
		case errors.Is(err, ErrTransient):
			unknown = err // a busy store answers so to rivals
		case !errors.Is(err, ErrExists):
			return -1, fmt.Errorf("object: probe: %w", err)
		}
	}
	switch {
	case wins > 1:
		return -1, fmt.Errorf("%w: %d of %d racing puts succeeded", ErrNoIfAbsent, wins, probeRivals)
	case wins == 1:
		return winner, nil
	case unknown != nil:
		return -1, unknown
	}
	return -1, fmt.Errorf("%w: a new key was said to exist", ErrNoIfAbsent)
}

// probeAgain puts the key that exists once more, and reads it.
func probeAgain(ctx context.Context, store Store, key string, winner int) error {
	_, err := store.Put(ctx, key, bytes.NewReader(probeBody(probeRivals)), PutOptions{IfAbsent: true})
	if err == nil {
		return fmt.Errorf("%w: a key that exists was overwritten", ErrNoIfAbsent)
	}
	if !errors.Is(err, ErrExists) {
		return fmt.Errorf("object: probe: %w", err)
	}
	buf := make([]byte, 64)
	n, _, err := store.Get(ctx, key, 0, buf)
	if err != nil {
		return fmt.Errorf("object: probe: %w", err)
	}
	if !bytes.Equal(buf[:n], probeBody(winner)) {
		return fmt.Errorf("%w: a put that was refused changed the object", ErrNoIfAbsent)
	}
	return nil
}
