// Package logbook keeps the log calm, and its last lines: in memory, and on disk
// those from before something went wrong.
package logbook
