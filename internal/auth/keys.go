package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	maxKeys    = 64
	minModulus = 2048 // bits of an RSA key
	maxModulus = 8192 // more costs a small board too long
)

// Keys are public keys by their kid. Each is for one algorithm.
type Keys map[string]key

type key struct {
	algorithm string // RS256, ES256 or EdDSA
	public    crypto.PublicKey
}

// jwk is a key as RFC 7517 writes it.
type jwk struct {
	Type      string `json:"kty"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv"`
	N         string `json:"n"`
	E         string `json:"e"`
	X         string `json:"x"`
	Y         string `json:"y"`
	D         string `json:"d"` // of a private key
	K         string `json:"k"` // of a shared secret
}

// ParseKeys reads a JWK set (RFC 7517). Keys for something else than RS256,
// ES256 and EdDSA with Ed25519 are left out, as the RFC asks; one that is for
// these and wrong, or a secret, fails the whole set. Nothing, or null, is no
// keys.
func ParseKeys(raw []byte) (Keys, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	switch {
	case set.Keys == nil:
		return nil, errors.New("read keys: no member keys")
	case len(set.Keys) > maxKeys:
		return nil, fmt.Errorf("read keys: %d are more than %d", len(set.Keys), maxKeys)
	}
	keys := Keys{}
	for i := range set.Keys {
		j := &set.Keys[i]
		algorithm := j.algorithm()
		switch {
		case j.D != "" || j.K != "":
			return nil, fmt.Errorf("key %q: it is a secret, and does not belong here", j.ID)
		case algorithm == "", j.Use != "" && j.Use != "sig", j.Algorithm != "" && j.Algorithm != algorithm:
			continue
		case j.ID == "" || len(j.ID) > event.MaxKey:
			return nil, fmt.Errorf("key %d: kid has %d bytes, not 1 to %d", i, len(j.ID), event.MaxKey)
		}
		if _, twice := keys[j.ID]; twice {
			return nil, fmt.Errorf("key %q: it is there twice", j.ID)
		}
		public, err := j.public()
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", j.ID, err)
		}
		keys[j.ID] = key{algorithm, public}
	}
	return keys, nil
}

// algorithm returns the only algorithm a key is used for, empty if none.
func (j *jwk) algorithm() string {
	switch {
	case j.Type == "RSA":
		return "RS256"
	case j.Type == "EC" && j.Curve == "P-256":
		return "ES256"
	case j.Type == "OKP" && j.Curve == "Ed25519":
		return "EdDSA"
	}
	return ""
}

func (j *jwk) public() (crypto.PublicKey, error) {
	decode := base64.RawURLEncoding.Strict().DecodeString
	switch j.Type {
	case "RSA":
		n, err1 := decode(j.N)
		e, err2 := decode(j.E)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		modulus := new(big.Int).SetBytes(n)
		if bits := modulus.BitLen(); bits < minModulus || bits > maxModulus {
			return nil, fmt.Errorf("modulus has %d bits, not %d to %d", bits, minModulus, maxModulus)
		}
		exponent := new(big.Int).SetBytes(e)
		if !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > 1<<31-1 || exponent.Bit(0) == 0 {
			return nil, errors.New("exponent is not odd and between 3 and 2³¹")
		}
		return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
	case "EC":
		x, err1 := decode(j.X)
		y, err2 := decode(j.Y)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		const size = 32
		if len(x) != size || len(y) != size {
			return nil, errors.New("coordinates are not 32 bytes each")
		}
		// Also checks that the point is on the curve.
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, err
		}
		return public, nil
	default: // OKP
		x, err := decode(j.X)
		if err != nil {
			return nil, err
		}
		if len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("x has %d bytes, not %d", len(x), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(x), nil
	}
}
