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
// passwords good; the same call again ends that.
//
// password must open the highest entry, so that of two changes at once one fails: the error wraps
// ErrPassword. When next opens it already there is nothing left but to delete the others. The root
// secret stays, so nothing else is written anew.
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
		return ring.bad[0] // the highest entry: whose it is cannot be known
	}
	highest := ring.entries[0]
	root, err := highest.open(password)
	if errors.Is(err, ErrPassword) {
		if _, err := highest.open(next); err == nil { // it was put, and then something went wrong
			return deleteEntries(ctx, store, ring.numbers[1:])
		}
		return fmt.Errorf("%w: it does not open %s, the newest keyring entry", ErrPassword, entryKey(highest.number))
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

// putEntry writes e unless its number is taken. A lost answer shows as our own bytes. The number
// may have been taken and deleted since the keyring was read, by somebody who then wrote a higher
// one: the highest is never deleted, so that a look afterwards tells.
func putEntry(ctx context.Context, store object.Store, e *entry) error {
	key := entryKey(e.number)
	_, err := store.Put(ctx, key, bytes.NewReader(e.raw), object.PutOptions{IfAbsent: true})
	if errors.Is(err, object.ErrExists) {
		err = checkOwn(ctx, store, e)
	}
	if err != nil {
		return err
	}
	numbers, err := listKeyring(ctx, store)
	if err != nil {
		return err
	}
	if len(numbers) > 0 && numbers[0] > e.number {
		if err := store.Delete(ctx, key); err != nil {
			return err
		}
		return errChanged
	}
	return nil
}

// checkOwn returns nil if the store holds e itself, and errChanged if it does not.
func checkOwn(ctx context.Context, store object.Store, e *entry) error {
	key := entryKey(e.number)
	got, err := readSmall(ctx, store, key, entrySize)
	if errors.Is(err, object.ErrNotFound) {
		return errChanged
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(got, e.raw) {
		return errChanged
	}
	return nil
}

func deleteEntries(ctx context.Context, store object.Store, numbers []uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	keys := make([]string, len(numbers))
	for i, n := range numbers {
		keys[i] = entryKey(n)
	}
	if err := store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("the new password is in force, the old one too until its entry is deleted: %w", err)
	}
	return nil
}
