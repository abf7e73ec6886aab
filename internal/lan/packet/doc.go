// Package packet reads and writes Socket.IO packets without looking into their
// arguments.
package packet
