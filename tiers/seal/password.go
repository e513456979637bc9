package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"zerofs/tiers/object"
)

// ChangePassword makes the volume open with next instead of password. It writes the entry above the
// highest one if it is absent, then deletes the others. A crash in between leaves both
// passwords good; the same call again, or one from next to another password, ends that.
//
// password must open the highest entry, so that of two changes at once one fails: the error wraps
// ErrPassword. The root secret stays, so nothing else is written anew.
func ChangePassword(ctx context.Context, store object.Store, password, next []byte, rand io.Reader) error {
	if len(password) == 0 || len(next) == 0 {
		return fmt.Errorf("seal: change password: empty password: %w", ErrPassword)
	}
	for range attemptsMax {
		err := changePassword(ctx, store, password, next, rand)
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("seal: change password: %w", err)
		}
		return nil
	}
	return fmt.Errorf("seal: change password: %w %d times", errChanged, attemptsMax)
}

func changePassword(ctx context.Context, store object.Store, password, next []byte, rand io.Reader) error {
	ring, err := readKeyring(ctx, store)
	if err != nil {
		return err
	}
	if len(ring.entries) == 0 || ring.entries[0].number != ring.numbers[0] {
		return ring.refusal() // the highest cannot be read: what it is for is not known
	}
	highest := ring.entries[0]
	root, err := highest.open(password)
	if errors.Is(err, ErrPassword) {
		return finishChange(ctx, store, ring, password, next)
	}
	if err != nil {
		return err
	}
	e, err := newEntry(root, next, highest.number+1, highest.kdf, rand)
	if err != nil {
		return err
	}
	if err := putEntry(ctx, store, e); err != nil {
		return err
	}
	return deleteEntries(ctx, store, ring.numbers)
}

// finishChange ends a change from password to next that was cut short before the old entries went.
func finishChange(ctx context.Context, store object.Store, ring *keyring, password, next []byte) error {
	highest := ring.entries[0]
	root, err := highest.open(next)
	if err == nil && len(ring.entries) == 1 && len(ring.numbers) == 1 {
		return fmt.Errorf("%w: the new password is in force already", ErrPassword)
	}
	if err == nil {
		for _, e := range ring.entries[1:] {
			if was, err := e.open(password); err == nil && was == root {
				return deleteEntries(ctx, store, ring.numbers[1:])
			}
		}
	}
	for _, e := range ring.entries[1:] {
		if _, err := e.open(password); err == nil {
			return fmt.Errorf("%w: %s was made by another change of password, start from that one", ErrPassword, entryKey(highest.number))
		}
	}
	return ring.refusal()
}

// putEntry writes e unless its number is taken. A lost answer shows as our own bytes.
func putEntry(ctx context.Context, store object.Store, e *entry) error {
	key := entryKey(e.number)
	_, err := store.Put(ctx, key, bytes.NewReader(e.raw), object.PutOptions{IfAbsent: true})
	if err == nil || !errors.Is(err, object.ErrExists) {
		return err
	}
	got, err := readSmall(ctx, store, key, entrySize)
	if errors.Is(err, object.ErrNotFound) {
		return errChanged
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(got, e.raw) {
		return errChanged // by another change of password: see whether ours may still follow
	}
	return nil
}

func deleteEntries(ctx context.Context, store object.Store, numbers []uint64) error {
	keys := make([]string, len(numbers))
	for i, n := range numbers {
		keys[i] = entryKey(n)
	}
	if err := store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("the new password is in force, the old one too until its entry is deleted: %w", err)
	}
	return nil
}
