// Package recovery remembers the sessions of clients, so that one that comes
// back is given what it missed.
package recovery
