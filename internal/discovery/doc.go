// Package discovery announces the box on the LAN by mDNS, and keeps the
// announcement true while cables and addresses come and go.
package discovery
