package journal

import (
	"crypto/cipher"
	"fmt"

	"zerofs/tiers/seal"
)

// keysMax bounds the ciphers that a keyring keeps; salts from damaged blocks must not fill memory.
const keysMax = 256

// keyring derives the cipher of each turn once. Not safe for concurrent use.
type keyring struct {
	key   *seal.Key
	aeads map[salt]cipher.AEAD
}

func newKeyring(key *seal.Key) *keyring {
	return &keyring{key: key, aeads: make(map[salt]cipher.AEAD)}
}

func (k *keyring) aead(s salt) (cipher.AEAD, error) {
	if a, ok := k.aeads[s]; ok {
		return a, nil
	}
	a, err := k.key.AEAD(keyLabel, s[:])
	if err != nil {
		return nil, fmt.Errorf("journal: derive key: %w", err)
	}
	if len(k.aeads) >= keysMax {
		clear(k.aeads)
	}
	k.aeads[s] = a
	return a, nil
}
