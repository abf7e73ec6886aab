// Package testpart runs a part of the box inside a test: until the test ends,
// with a log in which an error fails it, and with waits that end.
package testpart
