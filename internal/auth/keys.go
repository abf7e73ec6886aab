package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

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

	Operations []string `json:"key_ops"` // nil: any
}

// ParseKeys reads a JWK set (RFC 7517). Keys for something else than RS256,
// ES256 and EdDSA with Ed25519 are left out, as the RFC asks; one that is for
// these and wrong, or a secret, fails the whole set. Nothing, or null, is no
// keys.
func ParseKeys(raw []byte) (Keys, error) {
	list, err := readSet(raw)
	if list == nil || err != nil {
		return nil, err
	}
	keys := Keys{}
	for i, one := range list {
		if _, err := keys.add(i, one); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// MendKeys reads a JWK set of which some keys may be unusable: the error names
// these, and under their kid the key of the set before stays, if it has one. Of a
// set that is none, all of that stays. It also returns the set that the keys make,
// which is raw if there is no error.
func MendKeys(raw, before []byte) (keys Keys, set []byte, err error) {
	keys, err = ParseKeys(raw)
	if err == nil {
		return keys, raw, nil
	}
	list, err := readSet(raw)
	if err != nil {
		keys, _ = ParseKeys(before)
		return keys, before, err
	}
	had := map[string]json.RawMessage{}
	known, _ := readSet(before) // one that cannot be read has none
	for _, one := range known {
		var j jwk
		if json.Unmarshal(one, &j) == nil {
			had[j.ID] = one
		}
	}
	keys = Keys{}
	good, stay := []json.RawMessage{}, []json.RawMessage{}
	var problems []error
	for i, one := range list {
		kid, err := keys.add(i, one)
		if err == nil {
			good = append(good, one)
			continue
		}
		problems = append(problems, err)
		stay = append(stay, had[kid])
	}
	for i, one := range stay {
		if one == nil {
			continue
		}
		if _, err := keys.add(i, one); err == nil { // else the set has a good one of that kid
			good = append(good, one)
		}
	}
	set, err = json.Marshal(map[string]any{"keys": good})
	return keys, set, errors.Join(append(problems, err)...)
}

// readSet returns the keys of a JWK set, nil if raw is nothing or null.
func readSet(raw []byte) ([]json.RawMessage, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
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
	return set.Keys, nil
}

// add adds the key number i of a set, unless it is for something else, and
// returns its kid. An error says why it cannot be used.
func (k Keys) add(i int, raw []byte) (kid string, err error) {
	var j jwk
	if err := json.Unmarshal(raw, &j); err != nil {
		return "", fmt.Errorf("key %d: %w", i, err)
	}
	algorithm := j.algorithm()
	switch {
	case j.D != "" || j.K != "":
		return j.ID, fmt.Errorf("key %q: it is a secret, and does not belong here", j.ID)
	case algorithm == "", j.Use != "" && j.Use != "sig", j.Algorithm != "" && j.Algorithm != algorithm,
		j.Operations != nil && !slices.Contains(j.Operations, "verify"):
		return j.ID, nil
	case j.ID == "" || len(j.ID) > event.MaxKey:
		return "", fmt.Errorf("key %d: kid has %d bytes, not 1 to %d", i, len(j.ID), event.MaxKey)
	}
	if _, twice := k[j.ID]; twice {
		return j.ID, fmt.Errorf("key %q: it is there twice", j.ID)
	}
	public, err := j.public()
	if err != nil {
		return j.ID, fmt.Errorf("key %q: %w", j.ID, err)
	}
	k[j.ID] = key{algorithm, public}
	return j.ID, nil
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
		if anybodySigns(x) {
			return nil, errors.New("x is a point of small order, for which anybody can sign")
		}
		return ed25519.PublicKey(x), nil
	}
}

// anybodySigns reports whether an Ed25519 key is a point of small order: with it a
// signature can be made that is good for one text in eight, or for all. There are
// eight such points, on five heights y; 0 and 1 can also be written as p and p+1
// (RFC 8032 §5.1.7 leaves this check to whoever takes keys).
func anybodySigns(x []byte) bool {
	y := slices.Clone(x)
	y[31] &= 0x7f // the sign of the other coordinate
	slices.Reverse(y)
	return slices.Contains([]string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000001",
		"05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
		"7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd83d3d706a17c7",
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed",
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffee",
	}, hex.EncodeToString(y))
}
