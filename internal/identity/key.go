package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/avoqado/avoqado-edge/internal/durable"
)

// File is the name of the key's file in the state directory: PKCS #8 in PEM
// (RFC 5958, RFC 8410), mode 0600.
const File = "identity.key"

// Key is the Ed25519 key of a box (RFC 8032). It stays the same for the life
// of the state directory; who has pinned its fingerprint knows the box again at
// any address. Its methods may be called concurrently. The zero Key is none.
type Key struct{ private ed25519.PrivateKey }

// Open reads the key of a state directory, or makes one if there is none; the
// new one is durable on return. A key that is there and cannot be read is an
// error, never replaced: devices know the box by it.
func Open(stateDir string) (Key, error) {
	path := filepath.Join(stateDir, File)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(path)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the box's key: %w", err)
	}
	private, err := parse(raw)
	if err != nil {
		return Key{}, fmt.Errorf("read the box's key %s: %w; bring it back from a copy, or move it away to have a new one made, and pair every device again", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return Key{}, fmt.Errorf("others may read the box's key: %w", err)
		}
	}
	return Key{private}, nil
}

func create(path string) (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make the box's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, fmt.Errorf("make the box's key: %w", err)
	}
	if err := durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return Key{}, fmt.Errorf("save the box's key: %w", err)
	}
	return Key{private}, nil
}

func parse(raw []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("it holds no PRIVATE KEY in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it holds a %T, not an Ed25519 key", key)
	}
	return private, nil
}

// Sign returns the Ed25519 signature of message, 64 bytes.
func (k Key) Sign(message []byte) []byte { return ed25519.Sign(k.private, message) }

// Public returns the public half, 32 bytes.
func (k Key) Public() ed25519.PublicKey {
	return append(ed25519.PublicKey(nil), k.private[ed25519.SeedSize:]...)
}

// Fingerprint returns that of the public half, see [Fingerprint].
func (k Key) Fingerprint() string { return Fingerprint(k.Public()) }

// Fingerprint returns the SHA-256 of a public key as SubjectPublicKeyInfo in
// lower-case hex, 64 characters: what `openssl pkey -pubin -outform DER | sha256sum`
// has.
func Fingerprint(public ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "" // cannot be: every Ed25519 key can be written
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
