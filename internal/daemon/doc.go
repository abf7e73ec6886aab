// Package daemon builds all parts of a box, runs them and takes them down.
package daemon
