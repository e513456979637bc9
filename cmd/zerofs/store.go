package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"time"

	"zerofs/config"
	"zerofs/engine/volume"
	"zerofs/tiers/object"
	"zerofs/tiers/object/backend"
	"zerofs/tiers/object/s3"
	"zerofs/tiers/seal"
)

// storeTime is how long a store may be unusable at start.
const storeTime = 60 * time.Second

// openStore opens the store of the configuration: hedged, counted and retried.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (object.Store, error) {
	o := cfg.Object
	raw, err := backend.Open(ctx, cfg.Volume.URL, backend.Options{
		S3: s3.Options{
			Endpoint: o.Endpoint, AllowHTTP: o.AllowHTTP, Region: o.Region, PathStyle: o.PathStyle,
			AccessKeyID: o.AccessKeyID, SecretAccessKey: o.SecretAccessKey.Reveal(),
		},
		Now: time.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStore, err)
	}
	hedged := object.Hedge(raw, object.HedgeOptions{Now: time.Now})
	return object.Retry(hedged, object.RetryOptions{Jitter: mrand.Float64, Now: time.Now, Logger: log}), nil
}

// openVolume reads the keyring with the configured password; with create it makes the volume if
// there is none. A store that does not answer is tried for storeTime.
func openVolume(ctx context.Context, cfg *config.Config, store object.Store, create bool) (*seal.Volume, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if create {
		if err := object.Probe(ctx, store, rand.Reader); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errStore, cfg.Volume.URL, err)
		}
	}
	v, err := seal.OpenVolume(ctx, store, []byte(cfg.Volume.Password.Reveal()), seal.VolumeOptions{
		Create: create, ChunkSize: uint32(orDefault(cfg.Volume.ChunkSize, 4<<10)),
		Cipher: ciphers[orDefault(cfg.Volume.Cipher, "chacha20poly1305")], Compression: orDefault(cfg.Volume.Compression, "minlz"),
		Rand: rand.Reader,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Volume.URL, storeError(err))
	}
	return v, matches(cfg, v)
}

var ciphers = map[string]seal.Cipher{"chacha20poly1305": seal.ChaCha20Poly1305, "aes256gcm": seal.AES256GCM}

func cipherName(c seal.Cipher) string {
	for name, v := range ciphers {
		if v == c {
			return name
		}
	}
	return fmt.Sprintf("cipher %d", c)
}

// matches refuses settings that are not those the volume was made with.
func matches(cfg *config.Config, v *seal.Volume) error {
	if n := cfg.Volume.ChunkSize; n != 0 && n != int64(v.ChunkSize) {
		return fmt.Errorf("%w: volume.chunk_size is %s, the volume was made with %s", volume.ErrMismatch, config.FormatSize(n), config.FormatSize(int64(v.ChunkSize)))
	}
	if c := cfg.Volume.Cipher; c != "" && ciphers[c] != v.Cipher {
		return fmt.Errorf("%w: volume.cipher is %s, the volume was made with %s", volume.ErrMismatch, c, cipherName(v.Cipher))
	}
	if c := cfg.Volume.Compression; c != "" && c != v.Compression {
		return fmt.Errorf("%w: volume.compression is %s, the volume was made with %s", volume.ErrMismatch, c, v.Compression)
	}
	return nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
