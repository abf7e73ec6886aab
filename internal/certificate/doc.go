// Package certificate keeps the certificate that the box shows on the LAN: one
// from files, or one that it makes for itself and signs with a CA of its own.
package certificate
