// Package identity keeps the box's own key, and what the box says of itself
// under its signature.
package identity
