// Package auth turns a token into a grant, without asking anyone: a box whose
// internet is down still knows who may do what.
//
// Tokens are signed with the secret that the box shares with the issuer
// (HS256), or with a key whose public half the cloud has sent (RS256, ES256,
// EdDSA; see [Keys]). What the cloud says of the venue and of tokens it takes
// back is a [Policy]; the last one that came stays in force while there is no
// internet.
package auth
