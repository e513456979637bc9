package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"zerofs/tiers/object"
)

const (
	// entriesMax bounds the keyring entries that are tried, each of which costs an Argon2id. There
	// is one, and two while the password changes.
	entriesMax = 16
	// attemptsMax bounds how often the keyring is read anew because it changed meanwhile.
	attemptsMax = 8
)

// VolumeOptions says how OpenVolume creates.
type VolumeOptions struct {
	Create      bool // make the volume if the store holds none
	ChunkSize   uint32
	Cipher      Cipher
	Compression string
	KDF         KDF       // of the password; DefaultKDF if zero
	Rand        io.Reader // of secrets: crypto/rand.Reader
}

// errChanged reports a keyring that changed while it was read.
var errChanged = errors.New("keyring changed meanwhile")

// OpenVolume opens the keyring with password and reads the volume's description, or, with
// Create, makes both. Two creators at once, and a creator that crashed half-way, end with one volume.
//
// The highest keyring entry that opens with the password counts. Errors wrap ErrPassword,
// ErrNoVolume, ErrFormat, ErrCorrupt or the store's. A store which holds a volume's log or files, but
// not its keyring or description, is ErrCorrupt and nothing is made there.
func OpenVolume(ctx context.Context, store object.Store, password []byte, opts VolumeOptions) (*Volume, error) {
	if len(password) == 0 {
		return nil, fmt.Errorf("empty password: %w", ErrPassword)
	}
	if opts.KDF == (KDF{}) {
		opts.KDF = DefaultKDF
	}
	for range attemptsMax {
		root, err := openRoot(ctx, store, password)
		switch {
		case errors.Is(err, errChanged):
			continue
		case errors.Is(err, ErrNoVolume) && opts.Create:
			if err := createKeyring(ctx, store, password, opts); err != nil {
				return nil, err
			}
			continue // ours, or that of somebody who was faster
		case err != nil:
			return nil, err
		}
		return openDescription(ctx, store, root, opts)
	}
	return nil, fmt.Errorf("seal: open volume: %w %d times", errChanged, attemptsMax)
}

// openRoot returns the root secret of the highest keyring entry that opens with password.
func openRoot(ctx context.Context, store object.Store, password []byte) (root [keySize]byte, err error) {
	ring, err := readKeyring(ctx, store)
	if err != nil {
		return root, err
	}
	for _, e := range ring.entries {
		if root, err = e.open(password); err == nil {
			return root, nil
		}
		if !errors.Is(err, ErrPassword) {
			return root, err
		}
	}
	return root, ring.refusal()
}

// keyring is what the store holds of entries, highest first.
type keyring struct {
	numbers []uint64 // all, with those that cannot be decoded
	entries []*entry
	bad     []error // of entries that cannot be decoded
}

// refusal is the error when no entry opens.
func (r *keyring) refusal() error {
	if len(r.entries) == 0 {
		return fmt.Errorf("seal: none of %d keyring entries can be used: %w", len(r.numbers), r.bad[0])
	}
	if len(r.bad) > 0 {
		return fmt.Errorf("%w: it opens none of %d keyring entries, and %d cannot be used: %v",
			ErrPassword, len(r.numbers), len(r.bad), r.bad[0])
	}
	return fmt.Errorf("%w: it opens none of %d keyring entries", ErrPassword, len(r.numbers))
}

// readKeyring reads all entries. Without any the error wraps ErrNoVolume.
func readKeyring(ctx context.Context, store object.Store) (*keyring, error) {
	numbers, err := listKeyring(ctx, store)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%w: no object below %s", ErrNoVolume, keyringPrefix)
	}
	if len(numbers) > entriesMax {
		return nil, fmt.Errorf("seal: %d keyring entries, at most %d are tried: %w", len(numbers), entriesMax, ErrCorrupt)
	}
	ring := &keyring{numbers: numbers}
	for _, n := range numbers {
		raw, err := readSmall(ctx, store, entryKey(n), entrySize)
		if errors.Is(err, object.ErrNotFound) {
			return nil, errChanged
		}
		if err != nil {
			return nil, fmt.Errorf("seal: read keyring: %w", err)
		}
		if e, err := decodeEntry(n, raw); err != nil {
			ring.bad = append(ring.bad, err)
		} else {
			ring.entries = append(ring.entries, e)
		}
	}
	return ring, nil
}

// listKeyring returns the numbers of all entries, highest first.
func listKeyring(ctx context.Context, store object.Store) ([]uint64, error) {
	var numbers []uint64
	after := ""
	for {
		page, err := store.List(ctx, keyringPrefix, after)
		if err != nil {
			return nil, fmt.Errorf("seal: list keyring: %w", err)
		}
		for _, e := range page.Entries {
			if n, err := parseEntryKey(e.Key); err == nil {
				numbers = append(numbers, n)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

// createKeyring puts keyring/1. That another was faster is no error.
func createKeyring(ctx context.Context, store object.Store, password []byte, opts VolumeOptions) error {
	if found, err := leftover(ctx, store, volumeKey, "log/", "files/"); err != nil {
		return err
	} else if found != "" {
		// All of these come after a keyring: without one now, it was lost.
		if numbers, err := listKeyring(ctx, store); err != nil || len(numbers) > 0 {
			return err
		}
		return fmt.Errorf("seal: create volume: there is %s but no keyring: %w", found, ErrCorrupt)
	}
	if err := opts.description().check(); err != nil {
		return fmt.Errorf("seal: create volume: %w", err)
	}
	var root [keySize]byte
	if _, err := io.ReadFull(opts.Rand, root[:]); err != nil {
		return fmt.Errorf("seal: random bytes for the root secret: %w", err)
	}
	e, err := newEntry(root, password, 1, opts.KDF, opts.Rand)
	if err != nil {
		return err
	}
	_, err = store.Put(ctx, entryKey(1), bytes.NewReader(e.raw), object.PutOptions{IfAbsent: true})
	if err != nil && !errors.Is(err, object.ErrExists) {
		return fmt.Errorf("seal: create keyring: %w", err)
	}
	return nil
}

// description returns the volume that is to be made, without id and key.
func (o *VolumeOptions) description() *Volume {
	return &Volume{Format: FormatVersion, ChunkSize: o.ChunkSize, Cipher: o.Cipher, Compression: o.Compression}
}

// leftover returns an object below one of the prefixes, or "". Where a volume's data are, no key
// material is made: they could never be read again.
func leftover(ctx context.Context, store object.Store, prefixes ...string) (string, error) {
	for _, prefix := range prefixes {
		page, err := store.List(ctx, prefix, "")
		if err != nil {
			return "", fmt.Errorf("seal: create volume: %w", err)
		}
		if len(page.Entries) > 0 {
			return page.Entries[0].Key, nil
		}
	}
	return "", nil
}

// openDescription reads the object volume, or makes it where a creator, we or another, did not
// come to it.
func openDescription(ctx context.Context, store object.Store, root [keySize]byte, opts VolumeOptions) (*Volume, error) {
	raw, err := readSmall(ctx, store, volumeKey, volumeMax)
	if errors.Is(err, object.ErrNotFound) {
		if !opts.Create {
			return nil, fmt.Errorf("%w: its creation was not finished", ErrNoVolume)
		}
		if err := createDescription(ctx, store, root, opts); err != nil {
			return nil, err
		}
		raw, err = readSmall(ctx, store, volumeKey, volumeMax)
	}
	if err != nil {
		return nil, fmt.Errorf("seal: read volume: %w", err)
	}
	return decodeVolume(raw, root)
}

func createDescription(ctx context.Context, store object.Store, root [keySize]byte, opts VolumeOptions) error {
	if found, err := leftover(ctx, store, "log/", "files/"); err != nil {
		return err
	} else if found != "" {
		// These come after volume: without it now, it was lost.
		if _, err := store.Head(ctx, volumeKey); errors.Is(err, object.ErrNotFound) {
			return fmt.Errorf("seal: create volume: there is %s but no %s object: %w", found, volumeKey, ErrCorrupt)
		}
		return nil
	}
	v := opts.description()
	if _, err := io.ReadFull(opts.Rand, v.ID[:]); err != nil {
		return fmt.Errorf("seal: random bytes for the volume id: %w", err)
	}
	raw, err := encodeVolume(v, root, opts.Rand)
	if err != nil {
		return err
	}
	_, err = store.Put(ctx, volumeKey, bytes.NewReader(raw), object.PutOptions{IfAbsent: true})
	if err != nil && !errors.Is(err, object.ErrExists) {
		return fmt.Errorf("seal: create volume: %w", err)
	}
	return nil
}

// readSmall returns an object of which at most max bytes and one more are read.
func readSmall(ctx context.Context, store object.Store, key string, max int) ([]byte, error) {
	buf := make([]byte, max+1)
	n, _, err := store.Get(ctx, key, 0, buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
