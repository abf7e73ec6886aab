package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Path is where a box shows its card on the LAN (RFC 8615).
const Path = "/.well-known/avoqado-edge"

// typ keeps a card from being taken for anything else that the key signs.
const typ = "avoqado-edge-card+jws"

// Card is what a box says of itself. What it holds is no secret.
type Card struct {
	V           int       `json:"v"` // 1; clients pass over members they do not know
	Box         string    `json:"box"`
	Venue       string    `json:"venue"`
	Name        string    `json:"name,omitempty"`        // for people
	Version     string    `json:"version"`               // of the software
	Host        string    `json:"host"`                  // such as avq-box1.local
	Addresses   []string  `json:"addresses"`             // host:port, of every address at which it serves
	Path        string    `json:"path"`                  // of Socket.IO
	TLS         bool      `json:"tls"`                   // TLS is spoken on the same port
	Fingerprint string    `json:"fingerprint,omitempty"` // of the box's CA, SHA-256 in hex
	State       string    `json:"state"`                 // as the TXT key of that name
	Key         string    `json:"key"`                   // fingerprint of the key that signs, see [Fingerprint]
	IssuedAt    time.Time `json:"issuedAt"`              // by the clock of the box, which may be wrong
	Nonce       string    `json:"nonce,omitempty"`       // as the client asked, at most 64 characters
}

// document is a card as it travels: for people and simple clients as it is, and
// once more under a signature.
type document struct {
	Card
	JWS string `json:"jws"`
}

// header is the protected header of a card's JWS (RFC 7515 §4, RFC 8037).
type header struct {
	Alg string `json:"alg"`
	Typ string `json:"typ"`
	JWK struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		X   string `json:"x"`
	} `json:"jwk"`
}

// Seal returns the card as a JSON object with a member "jws": a compact JWS
// (RFC 7515 §7.1) whose payload is the card. It fills V and Key in.
func (k Key) Seal(c Card) ([]byte, error) {
	if k.private == nil {
		return nil, errors.New("the box has no key to sign with")
	}
	c.V, c.Key = 1, k.Fingerprint()
	h := header{Alg: "EdDSA", Typ: typ}
	h.JWK.Kty, h.JWK.Crv, h.JWK.X = "OKP", "Ed25519", encode(k.Public())
	protected, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	signed := encode(protected) + "." + encode(payload)
	return json.Marshal(document{c, signed + "." + encode(k.Sign([]byte(signed)))})
}

// Unseal reads what [Key.Seal] wrote and returns what is signed in it, and
// nothing else. The signature proves that the holder of the key with the
// fingerprint Key said so; that this is the box one wants is for the caller to
// know. The nonce must be the one that was asked for.
func Unseal(raw []byte, nonce string) (Card, error) {
	var d struct {
		JWS string `json:"jws"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return Card{}, fmt.Errorf("read card: %w", err)
	}
	parts := bytes.Split([]byte(d.JWS), []byte("."))
	if len(parts) != 3 {
		return Card{}, errors.New("read card: it is not signed")
	}
	var h header
	if err := decodeJSON(parts[0], &h); err != nil {
		return Card{}, fmt.Errorf("read header of card: %w", err)
	}
	public, err := decode([]byte(h.JWK.X))
	if err != nil || h.Alg != "EdDSA" || h.Typ != typ || h.JWK.Kty != "OKP" || h.JWK.Crv != "Ed25519" || len(public) != ed25519.PublicKeySize {
		return Card{}, errors.New("read card: it is not signed as cards are")
	}
	signature, err := decode(parts[2])
	if err != nil || !ed25519.Verify(public, []byte(d.JWS)[:len(parts[0])+1+len(parts[1])], signature) {
		return Card{}, errors.New("read card: its signature does not hold")
	}
	var c Card
	if err := decodeJSON(parts[1], &c); err != nil {
		return Card{}, fmt.Errorf("read card: %w", err)
	}
	switch {
	case c.V != 1:
		return Card{}, fmt.Errorf("read card: its version is %d, not 1", c.V)
	case c.Key != Fingerprint(public):
		return Card{}, errors.New("read card: it names another key than it is signed with")
	case c.Nonce != nonce:
		return Card{}, errors.New("read card: it was made for another question")
	}
	return c, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(text []byte) ([]byte, error) {
	return base64.RawURLEncoding.Strict().AppendDecode(nil, text)
}

func decodeJSON(text []byte, into any) error {
	raw, err := decode(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
