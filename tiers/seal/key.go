package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const keySize = 32 // bytes of every key here

// Key is a volume's data key, from which every other key is derived (HKDF-SHA256, one label per use).
type Key struct {
	root   [keySize]byte
	cipher Cipher
}

// NewKey returns the key of the given root secret and cipher. With a cipher that is not known
// every derivation fails.
func NewKey(root [32]byte, c Cipher) *Key { return &Key{root: root, cipher: c} }

// Cipher returns the volume's cipher.
func (k *Key) Cipher() Cipher { return k.cipher }

// AEAD returns the volume's cipher under the sub-key of label and salt. Its nonces have 96 bits
// and must not repeat for the same label and salt.
func (k *Key) AEAD(label string, salt []byte) (cipher.AEAD, error) {
	sub, err := k.derive(k.cipher.String(), label, salt)
	if err != nil {
		return nil, err
	}
	switch k.cipher {
	case ChaCha20Poly1305:
		return chacha20poly1305.New(sub)
	case AES256GCM:
		block, err := aes.NewCipher(sub)
		if err != nil {
			return nil, fmt.Errorf("seal: derive %q: %w", label, err)
		}
		return cipher.NewGCM(block)
	}
	return nil, fmt.Errorf("seal: derive %q: %w: cipher %d", label, ErrFormat, k.cipher)
}

// XAEAD returns XChaCha20-Poly1305 under the sub-key of label: random 192-bit nonces are safe. It
// does not depend on the volume's cipher.
func (k *Key) XAEAD(label string) (cipher.AEAD, error) {
	sub, err := k.derive("xchacha20poly1305", label, nil)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(sub)
}

// derive returns the sub-key of an algorithm, label and salt.
func (k *Key) derive(algorithm, label string, salt []byte) ([]byte, error) {
	sub, err := hkdf.Key(sha256.New, k.root[:], salt, "zerofs "+algorithm+" "+label, keySize)
	if err != nil {
		return nil, fmt.Errorf("seal: derive %q: %w", label, err)
	}
	return sub, nil
}
